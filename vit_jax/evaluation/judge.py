"""Runs the evaluations of a config on models that are loaded from files."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from vit_jax import config as config_lib
from vit_jax import data, logs, sharding
from vit_jax.checkpoints import model_file
from vit_jax.errors import UserError
from vit_jax.evaluation.features import computed_once
from vit_jax.evaluation.make import make_evaluations
from vit_jax.evaluation.predictions import Write, predict
from vit_jax.evaluation.registry import KINDS
from vit_jax.models.class_names import check_same, padded
from vit_jax.models.functional import split
from vit_jax.models.model import Model
from vit_jax.models.preprocessed import preprocessed
from vit_jax.tasks import Learner, make_task

Measures = dict[str, dict[str, float]]
_LOG = logging.getLogger(__name__)


def evaluate(model: Model | epath.PathLike, config: Any, **keywords: Any) -> Measures:
    """Returns the measures of a model by evaluation, such as `{"test": {"accuracy": 0.9, …, "examples": 1000}}`.

    `python -m vit_jax.evaluate` is its command line. The model is judged at its own image size and with its own
    preprocessing.

    Args:
        model: a model from `vit_jax.create` or `vit_jax.load`, or what `vit_jax.load` takes.
        config: as `judge` takes it; `vit_jax.load_config` returns one.
        keywords: keywords of `vit_jax.load`, such as `num_heads`, if `model` is to be loaded.

    Raises:
        UserError: as `judge`.
    """
    with logs.shown():
        ((_, measures),) = judge([model], config, **keywords)
    return measures


def judge(
    models: Sequence[Model | epath.PathLike], config: Any, write: Write | None = None, **keywords: Any
) -> Iterator[tuple[str, Measures]]:
    """Yields the name of each model and its measures by evaluation, such as `{"test": {"accuracy": 0.9, …}}`.

    Among the measures is `examples`, the number of examples that they are means over, as an integer. The accuracy
    leaves out those of them that have no label.

    With several processes, all of them call this, and all get the measures and what is written.

    Args:
        models: models, or what `vit_jax.load` takes. All of them are checked before the first image is read.
        config: a `Config` or a ConfigDict. The sections `data`, `task`, `mesh` and `evaluations` are
            read, and `seed` and `global_batch_size`.
        write: takes what each model predicts for each image of each evaluation that reads the head, as
            `predictions.predict` yields it, with the model's name as `model`. The images are then read once more.
        keywords: keywords of `vit_jax.load`.

    Raises:
        UserError: a model can't be loaded. If an evaluation reads the head or the task, also: the model's classes are
            not those of the data, or the task has parameters of its own, which a model's file does not hold.
    """
    config = config_lib.typed(config)
    if not config.evaluations:
        raise UserError("the config has no evaluations; set one by --config.evaluations, or in the file")
    task = make_task(config.task).evaluator()
    task.check(config)
    if config.preprocessing != config_lib.Preprocessing():
        _LOG.warning("config.preprocessing is not read: each model has its own")
    reads_task = bool(_reading_head(config))
    mesh = sharding.make_mesh(config.mesh)
    with data.opened_once():
        if reads_task:
            for each in models:
                name, count, names = _head(each, keywords)
                classes = data.class_names(config)
                mend = "name the data that it was trained for"
                check_same(name, count, names, padded(classes, count) if names else classes, mend)
        for each in models:
            name, model = _loaded(each, keywords)
            if reads_task and Learner(model, task).has_own:
                raise UserError(
                    f"the task {config.task.name} has parameters of its own, which a model's file does not hold; "
                    "evaluate it in its run, or choose another config.task.name"
                )
            _LOG.info("judging %s at %d x %d pixels", name, *model.preprocessing.size)
            own = dataclasses.replace(
                config.model, image_size=model.preprocessing.size, num_classes=model.arch.num_classes
            )
            params = split(model)[1]
            sharding.check_fsdp(params, mesh)
            params = sharding.placed(params, sharding.state_shardings(params, mesh))
            with contextlib.ExitStack() as closing:
                settings = preprocessed(dataclasses.replace(config, model=own), model)
                evaluations = make_evaluations(settings, model, mesh, closing)
                with computed_once():
                    measures = {key: _whole(evaluate(params)) for key, evaluate in evaluations.items()}
            if write:
                for evaluation in _reading_head(config):
                    for line in predict(settings, evaluation, model, params, mesh):
                        write({"model": name, **line})
            yield name, measures


def _reading_head(config: config_lib.Config) -> list[str]:
    """Returns the names of the evaluations that read the head and the task."""
    return [name for name, section in config.evaluations.items() if not KINDS[section.kind].own_classes]


def _whole(measures: dict[str, float]) -> dict[str, float]:
    return {**measures, "examples": int(measures["examples"])}


def _loaded(model: Model | epath.PathLike, keywords: dict[str, Any]) -> tuple[str, Model]:
    """Returns the name of a model, and the model."""
    return ("model", model) if isinstance(model, Model) else (str(model), model_file.load(model, **keywords))


def _head(model: Model | epath.PathLike, keywords: dict[str, Any]) -> tuple[str, int, tuple[str, ...]]:
    """Returns the name of a model, and the number and the names of its classes; of a file only the header is read."""
    if isinstance(model, Model):
        return "model", model.arch.num_classes, model.class_names
    file = model_file.read(model, **keywords)
    return str(model), file.architecture.num_classes, file.class_names
