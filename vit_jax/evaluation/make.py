"""Makes the evaluations of a config."""

import contextlib
import logging
import re
from collections.abc import Generator

from jax.sharding import Mesh

from vit_jax import config as config_lib
from vit_jax import data, progress, sharding
from vit_jax.errors import UserError
from vit_jax.evaluation.features import Extractor
from vit_jax.evaluation.registry import KINDS
from vit_jax.evaluation.subject import Evaluate, Subject
from vit_jax.models.model import Model
from vit_jax.tasks import Batch, Learner, make_task

_LOG = logging.getLogger(__name__)


def make_evaluations(
    config: config_lib.Config, model: Model, mesh: Mesh, closing: contextlib.ExitStack
) -> dict[str, Evaluate]:
    """Returns the evaluations of a config by name. Each is a function from parameters to measures.

    The data sets are opened at once and stay open for all calls. Inside of `features.computed_once`, evaluations that
    want features of the same images share them.

    Args:
        config: its section `preprocessing` says how images are made; `models.preprocessed` fills in that of the model.
            An evaluation with a `shorter_side` of its own uses that one.
        model: may have shapes for parameters.
        mesh: the mesh over which batches and parameters are split.
        closing: closes the data sets.

    Raises:
        UserError: the name of an evaluation is not allowed, a batch can't be split over the devices, or a data set is
            missing.
    """
    learner = Learner(model, make_task(config.task).evaluator())
    extract = Extractor(learner, mesh)
    return {name: _evaluation(name, config, model, learner, extract, mesh, closing) for name in config.evaluations}


def _evaluation(
    name: str,
    config: config_lib.Config,
    model: Model,
    learner: Learner,
    extract: Extractor,
    mesh: Mesh,
    closing: contextlib.ExitStack,
) -> Evaluate:
    section = config.evaluations[name]
    _check_name(name)
    batch_size = section.batch_size or config.global_batch_size
    key = "global_batch_size" if section.batch_size is None else f"evaluations.{name}.batch_size"
    sharding.check_batch(mesh, batch_size, key)
    kind = KINDS[section.kind]
    dataset = closing.enter_context(data.open_evaluation(config, name, own_classes=kind.own_classes))
    own, of_model = section.shorter_side, config.preprocessing.shorter_side
    if own is not None and own != of_model:
        _LOG.info(
            "the evaluation %s sees images of another shorter_side, %s, than the saved model's, %s (0: the whole "
            "image); config.preprocessing.shorter_side sets both",
            name,
            own,
            of_model,
        )
    rows = sharding.local_rows(mesh, batch_size)

    def batches(dataset: data.Dataset) -> Generator[Batch]:
        count, left = progress.lines(f"evaluating {name}", len(dataset)), len(dataset)
        for batch in dataset.examples(batch_size, rows=rows):
            yield sharding.to_devices(batch, mesh, batch_size)
            count(min(batch_size, left))
            left -= min(batch_size, left)

    subject = Subject(
        name=name,
        section=section,
        learner=learner,
        num_classes=model.arch.num_classes,
        task=make_task(config.task).evaluator(),
        seed=config.seed,
        mesh=mesh,
        dataset=dataset,
        open_learned=lambda: closing.enter_context(data.open_learned(config, name)),
        keep_open=closing.enter_context,
        batches=batches,
        features=lambda params, dataset: extract(name, params, dataset, batches),
    )
    return kind.make(subject)


def _check_name(name: str) -> None:
    """Raises UserError if the metrics of an evaluation with this name could be mistaken for others."""
    if name == "train" or not re.fullmatch(r"[\w.-]+", name):
        raise UserError(
            f"config.evaluations has the name {name!r}; its metrics are called NAME/accuracy, and train/ is the "
            "training's: take another one of letters, digits and _ . -"
        )
