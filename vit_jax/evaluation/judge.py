"""Runs the evaluations of a config on models that are loaded from files."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from vit_jax import config as config_lib
from vit_jax import data, sharding
from vit_jax.checkpoints import model_file
from vit_jax.errors import UserError
from vit_jax.evaluation.features import computed_once
from vit_jax.evaluation.make import make_evaluations
from vit_jax.evaluation.registry import KINDS
from vit_jax.models.class_names import padded
from vit_jax.models.functional import split
from vit_jax.models.model import Model
from vit_jax.models.preprocessed import preprocessed
from vit_jax.tasks import Learner, make_task
from vit_jax.values import first_difference

Measures = dict[str, dict[str, float]]
_LOG = logging.getLogger(__name__)


def judge(models: Sequence[str], config: Any, **keywords: Any) -> Iterator[tuple[str, Measures]]:
    """Yields the name of each model and its measures by evaluation, such as `{"test": {"accuracy": 0.9, …}}`.

    Among the measures is `examples`, the number of examples that they are means over, as an integer. The accuracy
    leaves out those of them that have no label.

    Args:
        models: what `vit_jax.load` takes.
        config: a `Config` or a ConfigDict. The sections `data`, `task`, `mesh` and `evaluations` are
            read, and `seed` and `global_batch_size`.
        keywords: keywords of `vit_jax.load`.

    Raises:
        UserError: a model can't be loaded. If an evaluation reads the head or the task, also: the model's classes are
            not those of the data, or the task has parameters of its own, which a model's file does not hold.
    """
    config = config_lib.typed(config)
    if not config.evaluations:
        raise UserError("the config has no evaluations; set one by --config.evaluations, or in the file")
    task = make_task(config.task)
    task.check(config)
    if config.preprocessing != config_lib.Preprocessing():
        _LOG.warning("config.preprocessing is not read: each model has its own")
    reads_task = any(not KINDS[section.kind].own_classes for section in config.evaluations.values())
    mesh = sharding.make_mesh(config.mesh)
    with data.opened_once():
        for name in models:
            model = model_file.load(name, **keywords)
            if reads_task:
                _check_classes(name, model, data.class_names(config))
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
            params = jax.device_put(params, sharding.state_shardings(params, mesh))
            with contextlib.ExitStack() as closing:
                settings = preprocessed(dataclasses.replace(config, model=own), model)
                evaluations = make_evaluations(settings, model, mesh, closing)
                with computed_once():
                    measures = {key: _whole(evaluate(params)) for key, evaluate in evaluations.items()}
            yield name, measures


def _whole(measures: dict[str, float]) -> dict[str, float]:
    return {**measures, "examples": int(measures["examples"])}


def _check_classes(name: str, model: Model, classes: tuple[str, ...]) -> None:
    """Raises UserError if a model was trained for other classes than the data has."""
    if model.class_names:
        if differs := first_difference(model.class_names, padded(classes, model.arch.num_classes)):
            label, theirs, ours = differs
            raise UserError(
                f"{name} calls the class {label} {theirs!r}, and the config's data calls it {ours!r}; name the data "
                "that it was trained for"
            )
    elif model.arch.num_classes != len(classes):
        raise UserError(
            f"{name} has {model.arch.num_classes} classes, and the config's data has {len(classes)}; name the data "
            "that it was trained for"
        )
    else:
        _LOG.info("%s does not say the names of its classes; their order is taken to be the data's", name)
