"""The number of examples and the classes of a training set."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from vit_jax import config as config_lib
from vit_jax import durations
from vit_jax.data import catalog, mixture, sources
from vit_jax.data.spec import training_spec


@dataclasses.dataclass(frozen=True)
class Info:
    """The training set after slicing, `labels_per_class` and `subset`; of a mixture, all data sets together.

    `class_names` is None if only a download would tell.
    """

    num_examples: int
    num_classes: int
    class_names: tuple[str, ...] | None


def info(config: Any, recorded: Mapping[str, Any] | None = None) -> Info:
    """Returns the number of examples and the classes of the training set of a config.

    They come from the catalog, if it has the data set; otherwise the data set is opened.

    Args:
        config: a `Config` or a ConfigDict.
        recorded: what `describe` returned when the run began. If it is given, nothing is opened.

    Raises:
        UserError: there is no such split, or the data set is not in the catalog and can't be opened.
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


def resolved(config: Any, recorded: Mapping[str, Any] | None = None) -> config_lib.Config:
    """Returns the typed config with every duration in steps.

    Args:
        config: a `Config` or a ConfigDict.
        recorded: what `describe` returned when the run began, if it is resumed.

    Raises:
        UserError: what is wrong with the config; or a duration is in epochs, and `info` fails.
    """
    config = config_lib.typed(config)
    num_examples = info(config, recorded).num_examples if durations.needs_num_examples(config) else None
    return durations.in_steps(config, num_examples)


def class_names(config: Any) -> tuple[str, ...]:
    """Returns the names of the classes, by label. Opens the training set unless the catalog has the names.

    Raises:
        UserError: the data set is missing.
    """
    config = config_lib.typed(config)
    known = from_catalog(config)
    if known and known.class_names is not None:
        return known.class_names
    return sources.class_names(training_spec(config))


def from_catalog(config: config_lib.Config) -> Info | None:
    """Returns what the catalog tells of the training set of a config, or None.

    It is None if the catalog does not have the data set, if the config chooses some of its classes (the catalog does
    not have their numbers of examples), or if a mixture has data sets of different classes whose names the catalog does
    not have (then `config.model.num_classes` tells their number, if it is set). There are no classes if no labels are
    read.
    """
    spec = training_spec(config)
    members = mixture.members(spec)
    entries = [catalog.find(member.name) for member in members]
    if config.data.classes or not all(entries):
        return None
    num_examples = 0
    for number, (member, entry) in enumerate(zip(members, entries, strict=True)):
        assert entry is not None
        with mixture.naming(number, member):
            parts = catalog.resolve(member.name, member.split, functools.partial(entry.count, member.name))
        num_examples += sum(len(positions) for _, positions in parts)
    classes: tuple[int, tuple[str, ...] | None] | None = 0, ()
    if config.data.max_labels:
        classes = _joined([member.name for member in members], [entry for entry in entries if entry])
    if classes is None and config.model.num_classes and not config.data.labels_per_class:
        classes = config.model.num_classes, None
    if classes is None:
        return None
    num_classes, names = classes
    if config.data.labels_per_class is not None:
        num_examples = config.data.labels_per_class * num_classes
    if config.data.subset is not None:
        sources.check_subset(config.data.subset, num_examples, spec.images)
        num_examples = config.data.subset
    return Info(num_examples, num_classes, names)


def _joined(titles: list[str], entries: list[catalog.Entry]) -> tuple[int, tuple[str, ...] | None] | None:
    """Returns the number of the classes of some data sets together and their names; None if the names decide them."""
    if all(entry is entries[0] for entry in entries):
        return entries[0].num_classes, entries[0].class_names
    known = [entry.class_names for entry in entries if entry.class_names is not None]
    if len(known) < len(entries):
        return None
    names = mixture.joined_names(titles, known)
    return len(names), names
