"""The data sets that a config names: those it trains on and those it evaluates on."""

import dataclasses
import logging
from collections.abc import Generator, Sequence
from typing import Any

from vit_jax import config as config_lib
from vit_jax.data import about, sources
from vit_jax.data.dataset import Dataset
from vit_jax.data.pipeline import Batch
from vit_jax.data.spec import evaluation_spec, learned_spec, training_spec
from vit_jax.errors import UserError

_LOG = logging.getLogger(__name__)


def open_training(config: Any) -> Dataset:
    """Returns the training set of a config.

    `config.preprocessing` is taken as it stands, and what it leaves open at the default: `training.preprocessed` fills
    in the model's, as a run does.

    Args:
        config: a `Config` or a ConfigDict.

    Raises:
        UserError: the data set is missing or does not fit the config.
    """
    config = config_lib.typed(config)
    dataset = Dataset(training_spec(config))
    _check_classes(config, dataset)
    expected = about.from_catalog(config)
    if expected and expected.num_examples != len(dataset):
        _LOG.warning(
            "%s has %d training examples where %d are known; epochs are counted with the latter",
            config.data.name,
            len(dataset),
            expected.num_examples,
        )
    return dataset


def open_evaluation(config: Any, name: str, *, own_classes: bool = False) -> Dataset:
    """Returns the data set of `config.evaluations[name]`. `config.preprocessing` is taken as in `open_training`.

    Args:
        config: a `Config` or a ConfigDict.
        name: of the evaluation.
        own_classes: whether it has the classes of its own data set; by default labels are numbers in those of the
            training set.

    Raises:
        UserError: there is no such evaluation, or its data set is missing, does not fit the config, or has a class that
            the training set has not, or no class of it if its `classes` are the common ones.
    """
    config = config_lib.typed(config)
    spec = evaluation_spec(config, name)
    if own_classes:
        return Dataset(spec)
    training = training_spec(config)
    names = sources.all_class_names(training)
    spec = dataclasses.replace(spec, classes=training.classes, class_names=names)
    common = config.evaluations[name].classes == "common"
    dataset = Dataset(spec, sources.select_common(spec) if common else None)
    _check_classes(config, dataset)
    return dataset


def open_learned(config: Any, name: str) -> Dataset:
    """Returns the data set that the evaluation `config.evaluations[name]` learns from, such as few-shot draws from.

    It has the classes of its own. Arguments are those of `open_evaluation`.

    Raises:
        UserError: there is no such evaluation, or its data set or the split are missing.
    """
    spec = learned_spec(config_lib.typed(config), name)
    try:
        return Dataset(spec)
    except UserError as error:
        raise UserError(f"config.{spec.section}.train_split is {spec.split!r}: {error}") from error


def batches(config: Any, *, start_step: int = 0, rows: Sequence[int] | None = None) -> Generator[Batch]:
    """Returns endless training batches of a config; see `open_training` and `Dataset.batches`."""
    config = config_lib.typed(config)
    dataset = open_training(config)
    return _closing(dataset, dataset.batches(config.global_batch_size, start_step=start_step, rows=rows))


def evaluation_batches(config: Any, name: str, rows: Sequence[int] | None = None) -> Generator[Batch]:
    """Returns each example of an evaluation once; see `open_evaluation` and `Dataset.examples`."""
    config = config_lib.typed(config)
    dataset = open_evaluation(config, name)
    batch_size = config.evaluations[name].batch_size or config.global_batch_size
    return _closing(dataset, dataset.examples(batch_size, rows=rows))


def _closing(dataset: Dataset, made: Generator[Batch]) -> Generator[Batch]:
    """Yields batches of a data set and closes it at their end."""
    with dataset:
        yield from made


def _check_classes(config: config_lib.Config, dataset: Dataset) -> None:
    """Raises UserError if the model has a head of fewer classes than the data set."""
    classes, found = config.model.num_classes, len(dataset.class_names)
    if classes and classes < found:
        raise UserError(
            f"config.model.num_classes is {classes}, and the data set {config.data.name} has {found} classes; set it "
            f"to {found} or more, or leave it out"
        )
