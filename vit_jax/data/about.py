"""What is known of the training set: how many examples, how many classes, and their names."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from vit_jax import config as config_lib
from vit_jax.data import catalog, sources, splits
from vit_jax.data.spec import training_spec


@dataclasses.dataclass(frozen=True)
class Info:
    """Of the training set, after slicing and `labels_per_class`; `class_names` may be unknown before a download."""

    num_examples: int
    num_classes: int
    class_names: tuple[str, ...] | None


def info(config: Any, recorded: Mapping[str, Any] | None = None) -> Info:
    """The training set of `config`: from the catalog, without reading anything, where that knows it, else opened.

    Args:
        config: a `Config` or a ConfigDict.
        recorded: what `describe` returned when the run began; it is believed, and nothing is opened.

    Raises:
        UserError: no such split; for a data set that isn't in the catalog, also what opening it raises.
    """
    config = config_lib.typed(config)
    known = from_catalog(config)
    if known:
        return known
    if recorded is not None:
        names = tuple(recorded["class_names"])
        return Info(recorded["num_examples"], len(names), names)
    source = sources.select(training_spec(config))
    return Info(len(source), len(source.class_names), source.class_names)


def class_names(config: Any) -> tuple[str, ...]:
    """The names of the classes, by label; opens the training set unless the catalog knows them.

    Raises:
        UserError: the data set is missing.
    """
    config = config_lib.typed(config)
    known = from_catalog(config)
    return (known and known.class_names) or sources.class_names(training_spec(config))


def from_catalog(config: config_lib.Config) -> Info | None:
    """Returns `info` of a training set in the catalog, else None.

    The catalog does not know how many examples some classes have, and has nothing to say of data without labels.
    """
    entry = catalog.find(config.data.name)
    if entry is None or config.data.classes or not config.data.max_labels:
        return None
    resolved = splits.resolve(config.data.split, lambda split: entry.count(config.data.name, split))
    num_examples = sum(len(positions) for _, positions in resolved)
    if config.data.labels_per_class is not None:
        num_examples = config.data.labels_per_class * entry.num_classes
    return Info(num_examples, entry.num_classes, entry.class_names)
