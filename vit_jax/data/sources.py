"""Examples by number: one protocol for all kinds of data sets, and which examples of them a config takes."""

import dataclasses
import functools
from typing import Any, Protocol

import numpy as np
from etils import epath

from vit_jax import config as config_lib
from vit_jax import streams
from vit_jax.data import decode, splits
from vit_jax.data.folder import FolderSource
from vit_jax.data.layouts import Asked
from vit_jax.data.once import once
from vit_jax.data.synthetic import SyntheticSource
from vit_jax.data.tfds_source import TfdsSource
from vit_jax.errors import UserError


class Source(Protocol):
    """A base split. Sources are sent to worker processes, so they can be pickled."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def identity(self) -> str:
        """The same for two sources of the same examples."""
        ...

    def record(self) -> dict[str, Any]:
        """What tells its examples from any others, as JSON values, read without the images."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict:
        """`image`, the bytes of a file or an array uint8 (height, width_px, channels), and `label`, an int."""
        ...

    def label(self, index: int) -> int: ...

    def describe(self, index: int) -> str:
        """The name of the example for messages: a path, or `split[index]`."""
        ...


@dataclasses.dataclass(frozen=True)
class Selection:
    """Some examples of some base splits, itself a source; example i is number `indices[i]` of `parts[which[i]]`."""

    parts: tuple[Source, ...]
    which: np.ndarray  # uint8 (examples,)
    indices: np.ndarray  # int32 (examples,)
    class_names: tuple[str, ...]

    @property
    def identity(self) -> str:
        return "+".join(part.identity for part in self.parts)

    def record(self) -> dict[str, Any]:
        parts = [part.record() for part in self.parts]
        return {"num_examples": len(self), "class_names": list(self.class_names), "parts": parts}

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        example = self._part(index)[int(self.indices[index])]
        return {"image": example["image"], "label": self._label(index, example["label"])}

    def label(self, index: int) -> int:
        return self._label(index, self._part(index).label(int(self.indices[index])))

    def describe(self, index: int) -> str:
        return self._part(index).describe(int(self.indices[index]))

    def take(self, chosen: np.ndarray) -> "Selection":
        """The examples of the numbers (or the mask) `chosen`."""
        return dataclasses.replace(self, which=self.which[chosen], indices=self.indices[chosen])

    def without(self, other: "Selection") -> "Selection":
        """The examples that are not in `other`."""
        kept = np.ones(len(self), bool)
        for mine, part in enumerate(self.parts):
            for theirs, part_of_other in enumerate(other.parts):
                if part.identity == part_of_other.identity:
                    taken = other.indices[other.which == theirs]
                    kept &= (self.which != mine) | ~np.isin(self.indices, taken)
        return self.take(kept)

    def _part(self, index: int) -> Source:
        return self.parts[self.which[index]]

    def _label(self, index: int, label: int) -> int:
        table = self._tables[self.which[index]]
        if not 0 <= label < len(table):
            raise UserError(
                f"{self.describe(index)} has the label {label}, which is none of the data set's {len(table)} classes; "
                "choose a split with labels"
            )
        return table[label]

    @functools.cached_property
    def _tables(self) -> list[list[int]]:
        """For each part, its labels as numbers in `class_names`; -1 for a class that isn't taken."""
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return [[numbers.get(name, -1) for name in part.class_names] for part in self.parts]


def training(config: config_lib.Config) -> Selection:
    """The examples to train on: those of `config.data.split`, of the chosen classes, or `labels_per_class` of them.

    Raises:
        UserError: the data set, the split or enough examples of a class are missing.
    """
    return once(("training", _key(config)), lambda: _training(config))


def _training(config: config_lib.Config) -> Selection:
    data = config.data
    selection = _of_classes(_open(config, "data", data.name, data.data_dir, data.split), data.classes)
    if data.labels_per_class is not None:
        selection = selection.take(_draw(selection, data.labels_per_class, config.seed, data.split))
    return selection


def evaluation(config: config_lib.Config, name: str) -> Selection:
    """The examples of `config.evaluations[name]`, with the classes numbered as in training.

    Raises:
        UserError: no such evaluation, the data set or the split are missing, a class that training doesn't know, or no
            examples are left.
    """
    return once(("evaluation", name, _key(config)), lambda: _evaluation(config, name))


def _evaluation(config: config_lib.Config, name: str) -> Selection:
    section, data, key = section_of(config, name), config.data, f"evaluations.{name}"
    dataset, data_dir = _where(config, section)
    selection = _open(config, key, dataset, data_dir, section.split, _all_class_names(config))
    selection = _of_classes(selection, data.classes)
    if section.exclude_train:
        selection = selection.without(training(config))
        if not len(selection):
            raise UserError(
                f"config.{key} has no images left, because training uses all of {section.split} and exclude_train is "
                "set; choose another split or fewer data.labels_per_class"
            )
    return selection


def section_of(config: config_lib.Config, name: str) -> config_lib.Evaluation:
    """`config.evaluations[name]`.

    Raises:
        UserError: there is none.
    """
    if name not in config.evaluations:
        raise UserError(f"the config has no evaluation {name!r}; it has {', '.join(config.evaluations) or 'none'}")
    return config.evaluations[name]


def image_size(config: config_lib.Config) -> decode.Size:
    """(height, width) of the model's images, in pixels."""
    size = config.model.image_size
    return (size, size) if isinstance(size, int) else size


def _key(config: config_lib.Config) -> str:
    """What the choice of examples depends on."""
    evaluations = [(name, s.name, s.data_dir, s.split, s.exclude_train) for name, s in config.evaluations.items()]
    synthetic = "synthetic" in (config.data.name, *(s.name for s in config.evaluations.values()))
    # Only synthetic images depend on the model's size; files are opened once for models of several sizes.
    return repr((config.data, evaluations, config.seed, image_size(config) if synthetic else None))


def _where(config: config_lib.Config, section: config_lib.Data | config_lib.Evaluation) -> tuple[str, str | None]:
    """The name and the folder of a section's data set; the training set's unless the section says another."""
    data = config.data
    same_kind = section.name in (None, data.name) or {section.name, data.name}.isdisjoint({"folder", "synthetic"})
    return section.name or data.name, section.data_dir or (data.data_dir if same_kind else None)


def _base(config: config_lib.Config, section: str, name: str, data_dir: str | None, split: str) -> Source:
    key = ("base", section, name, data_dir, split, _key(config))
    return once(key, lambda: _opened(config, section, name, data_dir, split))


def _opened(config: config_lib.Config, section: str, name: str, data_dir: str | None, split: str) -> Source:
    if name == "synthetic":
        return SyntheticSource(split, image_size(config), config.data.num_examples, config.data.num_classes)
    if name == "folder":
        return FolderSource(data_dir, split, section, _asked(config, data_dir))
    return TfdsSource(name, data_dir, split)


def _asked(config: config_lib.Config, data_dir: str | None) -> Asked:
    """The base splits that `config` asks of the image folder `data_dir`."""

    def asked_by(*asking: config_lib.Data | config_lib.Evaluation) -> frozenset[str]:
        here = ("folder", epath.Path(data_dir or ""))
        found = [(section.split, *_where(config, section)) for section in asking]
        chosen = [split for split, name, other in found if (name, epath.Path(other or "")) == here]
        return frozenset(piece.name for split in chosen for piece in splits.parse(split))

    return Asked(asked_by(config.data), asked_by(*config.evaluations.values()))


def class_names(config: config_lib.Config) -> tuple[str, ...]:
    """The classes of the training set, by label: all, or those that `config.data.classes` chooses."""
    names = _all_class_names(config)
    return _chosen(names, config.data.classes) if config.data.classes else names


def _all_class_names(config: config_lib.Config) -> tuple[str, ...]:
    data = config.data
    return _base(config, "data", data.name, data.data_dir, splits.parse(data.split)[0].name).class_names


def _open(
    config: config_lib.Config,
    section: str,
    name: str,
    data_dir: str | None,
    split: str,
    class_names: tuple[str, ...] | None = None,
) -> Selection:
    """Resolves `split`; the classes are `class_names`, or else those of the first base split."""
    parts: dict[str, Source] = {}

    def length_of(split_name: str) -> int:
        if split_name not in parts:
            parts[split_name] = _base(config, section, name, data_dir, split_name)
        return len(parts[split_name])

    resolved = splits.resolve(split, length_of)
    class_names = class_names or parts[resolved[0][0]].class_names
    for split_name, part in parts.items():
        unknown = [n for n in part.class_names if n not in set(class_names)]
        if unknown:
            raise UserError(
                f"the split {split_name} of {name} (config.{section}) has the class {unknown[0]!r}, which is none of "
                f"the {len(class_names)} classes trained on, such as {class_names[0]!r}; remove it there or add it to "
                "training"
            )
    numbers = {split_name: number for number, split_name in enumerate(parts)}
    which = [np.full(len(positions), numbers[n], np.uint8) for n, positions in resolved]
    indices = [np.arange(positions.start, positions.stop, dtype=np.int32) for _, positions in resolved]
    return Selection(tuple(parts.values()), np.concatenate(which), np.concatenate(indices), class_names)


def _chosen(names: tuple[str, ...], classes: tuple[int, ...]) -> tuple[str, ...]:
    wrong = [c for c in classes if not 0 <= c < len(names) or classes.count(c) > 1]
    if wrong:
        raise UserError(f"config.data.classes has {wrong[0]}; it takes each of 0 to {len(names) - 1} once at most")
    return tuple(names[c] for c in classes)


def _of_classes(selection: Selection, classes: tuple[int, ...]) -> Selection:
    """The examples of some classes, renumbered; reads the labels of all."""
    if not classes:
        return selection
    names = _chosen(selection.class_names, classes)
    kept = [index for index in range(len(selection)) if selection.label(index) in classes]
    return dataclasses.replace(selection.take(np.array(kept, np.int64)), class_names=names)


def _draw(selection: Selection, per_class: int, seed: int, split: str) -> np.ndarray:
    """`per_class` numbers of each class, sorted; of a large data set only as many labels are read as it takes."""
    missing = dict.fromkeys(range(len(selection.class_names)), per_class)
    drawn = []
    for index in streams.generator(seed, "labels_per_class").permutation(len(selection)):
        label = selection.label(int(index))
        if label in missing:
            drawn.append(index)
            missing[label] -= 1
            if not missing[label]:
                del missing[label]
        if not missing:
            return np.sort(drawn)
    label, lacking = next(iter(missing.items()))
    raise UserError(
        f"config.data.labels_per_class is {per_class}, and {split} has {per_class - lacking} images of the class "
        f"{selection.class_names[label]!r}; ask for fewer or choose a larger split"
    )
