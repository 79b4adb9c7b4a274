"""Which examples of which data sets a spec takes."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable

import numpy as np

from vit_jax import streams
from vit_jax.data import catalog, mixture
from vit_jax.data.folder import FolderSource
from vit_jax.data.once import once
from vit_jax.data.selection import Selection, Source
from vit_jax.data.spec import Spec
from vit_jax.data.synthetic import SyntheticSource
from vit_jax.data.tars import TarsSource
from vit_jax.data.tfds_source import TfdsSource
from vit_jax.errors import UserError

_LOG = logging.getLogger(__name__)


def select(spec: Spec) -> Selection:
    """Returns the examples that a spec takes.

    Raises:
        UserError: the data set, the split or enough examples of a class are missing; a class is not among
            `spec.class_names`; or no examples are left.
    """
    return once(("selection", _key(spec)), lambda: _select(spec))


def _select(spec: Spec) -> Selection:
    selection = _of_classes(_resolved(spec), spec.classes)
    if spec.labels_per_class is not None:
        selection = selection.take(_draw(selection, spec))
    if spec.subset is not None:
        selection = selection.take(_subset(len(selection), spec.subset, spec))
    selection = mixture.check(selection, spec)
    if spec.exclude is not None:
        selection = selection.without(select(spec.exclude))
        if not len(selection):
            raise UserError(
                f"config.{spec.section} has no images left, because training uses all of {spec.split} and "
                "exclude_train is set; choose another split, or set a smaller data.subset or data.labels_per_class"
            )
    return selection


def select_common(spec: Spec) -> Selection:
    """Returns those examples of a spec that have a class, by its name, among the spec's own; reads all labels.

    Raises:
        UserError: as `select`, or no example has.
    """
    names = class_names(spec)
    own = select(dataclasses.replace(spec, classes=(), class_names=None))
    renamed = dataclasses.replace(own, class_names=names)
    kept = [index for index in range(len(own)) if renamed.labels(index)]
    if not kept:
        raise UserError(
            f"the split {spec.split} of {spec.name} (config.{spec.section}) has no image of a class that is trained "
            f"on: its classes are such as {own.class_names[0]!r}, and those trained on such as {names[0]!r}; choose a "
            "data set that calls the classes by the same names"
        )
    if len(kept) < len(own):
        _LOG.info(
            "%s: %d of %d images have a class that is trained on; the others are left out",
            spec.section,
            len(kept),
            len(own),
        )
    return renamed.take(np.array(kept, np.int64))


def class_names(spec: Spec) -> tuple[str, ...]:
    """Returns the classes of a spec's examples, by label: all, or those that `spec.classes` chooses."""
    names = spec.class_names or all_class_names(spec)
    return _chosen(names, spec.classes) if spec.classes else names


def all_class_names(spec: Spec) -> tuple[str, ...]:
    """Returns all classes of the data set, or of a mixture; of the splits of a data set only the first is opened."""
    names = []
    for number, member in enumerate(members := mixture.members(spec)):
        with mixture.naming(number, member):
            names.append(_base(member, catalog.first_split(member.name, member.split)).class_names)
    return mixture.joined_names([member.name for member in members], names)


def _key(spec: Spec) -> tuple:
    """Returns what the choice of examples depends on."""
    own = (spec.name, spec.split, spec.data_dir, spec.section, spec.asked, spec.seed, spec.classes, spec.class_names)
    return (
        *own,
        spec.labels_per_class,
        spec.subset,
        spec.max_labels,
        _synthetic(spec),
        spec.exclude and _key(spec.exclude),
        spec.weight,
        tuple(map(_key, spec.mixed)),
    )


def _synthetic(spec: Spec) -> tuple:
    """Returns what only synthetic images depend on; files are opened once for models of several image sizes."""
    return (spec.size, spec.num_examples, spec.num_classes) if spec.name == "synthetic" else ()


def _base(spec: Spec, split: str) -> Source:
    labels = min(spec.max_labels, 2)  # how many more there are does not matter
    key = ("base", spec.name, spec.data_dir, split, spec.section, spec.asked, labels, _synthetic(spec))
    return once(key, lambda: _opened(spec, split))


def _opened(spec: Spec, split: str) -> Source:
    if spec.name == "synthetic":
        return SyntheticSource(split, spec.size, spec.num_examples, spec.num_classes)
    if spec.name == "folder":
        return FolderSource(spec.data_dir, split, spec.section, spec.asked, max_labels=spec.max_labels)
    if spec.name == "tars":
        return TarsSource(spec.data_dir, split, spec.section, labelled=spec.max_labels > 0)
    entry = catalog.find(spec.name)
    label, factor = (entry.label, entry.factor) if entry else (None, 1)
    name = catalog.dataset_of(spec.name)
    return TfdsSource(name, spec.data_dir, split, labelled=spec.max_labels > 0, label=label, factor=factor)


def _resolved(spec: Spec) -> Selection:
    """Returns all examples of `spec.split`, or of a mixture, with the labels as numbers in `spec.class_names`."""
    if not spec.mixed:
        return _of_one(spec)
    names = all_class_names(spec) if spec.class_names is None else spec.class_names
    selections = []
    for number, member in enumerate(members := mixture.members(spec)):
        with mixture.naming(number, member):
            selections.append(_of_one(dataclasses.replace(member, class_names=names)))
    return mixture.join(selections, [member.weight for member in members])


def _of_one(spec: Spec) -> Selection:
    """Returns all examples of the split of one data set."""
    parts: dict[str, Source] = {}

    def length_of(split: str) -> int:
        if split not in parts:
            parts[split] = _base(spec, split)
        return len(parts[split])

    resolved = catalog.resolve(spec.name, spec.split, length_of)
    names = parts[resolved[0][0]].class_names if spec.class_names is None else spec.class_names
    known = set(names)
    for split, part in parts.items():
        unknown = [name for name in part.class_names if name not in known]
        if unknown:
            raise UserError(
                f"the split {split} of {spec.name} (config.{spec.section}) has the class {unknown[0]!r}, which is none "
                f"of the {len(names)} classes trained on, such as {next(iter(names), None)!r}; remove it there or add "
                "it to training"
            )
    numbers = {split: number for number, split in enumerate(parts)}
    which = [np.full(len(positions), numbers[n], np.uint8) for n, positions in resolved]
    indices = [np.arange(positions.start, positions.stop, dtype=np.int32) for _, positions in resolved]
    return Selection(tuple(parts.values()), np.concatenate(which), np.concatenate(indices), names)


def _chosen(names: tuple[str, ...], classes: tuple[int, ...]) -> tuple[str, ...]:
    wrong = [c for c in classes if not 0 <= c < len(names) or classes.count(c) > 1]
    if wrong:
        raise UserError(f"config.data.classes has {wrong[0]}; it takes each of 0 to {len(names) - 1} once at most")
    return tuple(names[c] for c in classes)


def _of_classes(selection: Selection, classes: tuple[int, ...]) -> Selection:
    """Returns the examples that have a label among some classes, renumbered; reads the labels of all examples."""
    if not classes:
        return selection
    chosen, names = set(classes), _chosen(selection.class_names, classes)
    kept = [index for index in range(len(selection)) if not chosen.isdisjoint(selection.labels(index))]
    return dataclasses.replace(selection.take(np.array(kept, np.int64)), class_names=names)


def check_subset(subset: int, available: int, images: str) -> None:
    """Raises UserError if `config.data.subset` asks for more images than there are; `images` says of what."""
    if subset > available:
        raise UserError(
            f"config.data.subset is {subset}, and {images} has {available} images to draw from; ask for fewer or "
            "choose a larger split"
        )


def _subset(available: int, subset: int, spec: Spec) -> np.ndarray:
    """Returns `subset` of the numbers below `available`, sorted.

    They are the first of a permutation that depends only on the seed and on `available`, so a smaller subset is a part
    of every larger one of the same seed.
    """
    check_subset(subset, available, spec.images)
    return np.sort(streams.generator(spec.seed, "subset").permutation(available)[:subset])


def _draw(selection: Selection, spec: Spec) -> np.ndarray:
    """Returns `spec.labels_per_class` numbers of each class, sorted; reads only as many labels as that takes."""
    per_class = spec.labels_per_class
    assert per_class is not None
    order = streams.generator(spec.seed, "labels_per_class").permutation(len(selection))
    label_of = one_label(selection, "labels_per_class counts one class an image; leave it out")
    drawn = first_of_classes(order, label_of, len(selection.class_names), per_class)
    for name, found in zip(selection.class_names, drawn, strict=True):
        if len(found) < per_class:
            raise UserError(
                f"config.data.labels_per_class is {per_class}, and {spec.images} has {len(found)} images of the class "
                f"{name!r}; ask for fewer or choose a larger split"
            )
    return np.sort(np.concatenate(drawn))


def one_label(selection: Selection, needed: str) -> Callable[[int], int]:
    """Returns a function from the number of an example to its only label, which reads each label once.

    The function raises UserError if an example has not one label; `needed` says at the end why it must, and the mend.
    """

    @functools.cache
    def label_of(index: int) -> int:
        labels = selection.labels(index)
        if len(labels) != 1:
            raise UserError(f"{selection.describe(index)} has {len(labels)} labels; {needed}")
        return labels[0]

    return label_of


def first_of_classes(
    order: Iterable[int], label_of: Callable[[int], int], num_classes: int, count: int
) -> list[list[int]]:
    """Returns for each class the first `count` numbers of `order` whose label it is, or fewer if there are no more.

    Only as many labels are read as that takes.
    """
    found: list[list[int]] = [[] for _ in range(num_classes)]
    missing = count * num_classes
    for index in map(int, order):
        if not missing:
            break
        of_class = found[label_of(index)]
        if len(of_class) < count:
            of_class.append(index)
            missing -= 1
    return found
