"""The images of a folder, or of tars, as a data set to prepare."""

import functools
import logging
import re
from collections.abc import Iterator
from typing import Any

from etils import epath

from vit_jax.data import label_file, layouts, listing, tars
from vit_jax.data.folder import FolderSource
from vit_jax.data.selection import Source
from vit_jax.errors import UserError
from vit_jax.preparing.example import Example

KINDS = ("folder", "tars")
_VERSION = "1.0.0"
_LOG = logging.getLogger(__name__)


class Images:
    """Image files with the names of their classes. An example has `image`, and `label`, `labels` or neither.

    The order is that of the source that is also trained on directly, so that a prepared data set, and any slice of it,
    has the examples in the same order as the folder or the tars that it was made of.
    """

    reencodes = True
    beside = ()

    def __init__(self, kind: str, data_dir: str, splits: tuple[str, ...], labelled: bool) -> None:
        """Opens the splits.

        Args:
            kind: one of `KINDS`.
            data_dir: the folder.
            splits: names of splits; () for those that lie in the folder, or for the only one.
            labelled: whether labels are kept.

        Raises:
            UserError: the folder, a split or its classes are missing.
        """
        root = epath.Path(data_dir).expanduser()
        if not root.is_dir():
            raise UserError(f"--data_dir is {root}, and there is no such folder; name the folder of the images")
        self.folder = str(root)
        with listing.looking_at(str(root)):
            found = tuple(name for name in layouts.SPLITS if _has(root / name, kind))
            # A folder for testing must not take the place of another one, as it may in an evaluation.
            if missing := [name for name in splits if name != layouts.TRAIN and not _has(root / name, kind)]:
                raise UserError(
                    f"there is no split {missing[0]} in {root}; it has {listing.shortened(found) or layouts.TRAIN}"
                )
            if not splits and found and (others := [n for n in listing.folders(root) if n not in found]):
                _LOG.warning(
                    "%s: %s not prepared; if those are splits, too, name all in --splits",
                    root,
                    listing.shortened(others),
                )
            splits = splits or found or (layouts.TRAIN,)
            if unfit := [split for split in splits if not re.fullmatch(r"\w+", split)]:
                raise UserError(f"a split of TFDS can't be named {unfit[0]!r}; rename its folder to letters, digits, _")
            several = labelled and kind == "folder" and any(map(_has_label_file, (root, *(root / s for s in splits))))
            self._sources = {split: _source(kind, data_dir, split, labelled, several) for split in splits}
        self.splits = {split: len(source) for split, source in self._sources.items()}
        self._label = None if not labelled else "labels" if several else "label"
        self.class_names = self._sources[layouts.TRAIN if layouts.TRAIN in splits else splits[0]].class_names
        if unfit := [name for name in self.class_names if name != name.strip() or not name.isprintable()]:
            raise UserError(
                f"the class {unfit[0]!r} of {self.folder} can't be written as a line of text; give it another name"
            )
        self._numbers = {split: self._numbered(split) for split in splits}

    def _numbered(self, split: str) -> list[int]:
        """Returns the classes of a split as numbers in `class_names`."""
        numbers = {name: number for number, name in enumerate(self.class_names)}
        names = self._sources[split].class_names
        if unknown := [name for name in names if name not in numbers]:
            raise UserError(
                f"the split {split} of {self.folder} has the class {unknown[0]!r}, which is none of the "
                f"{len(numbers)} classes of the split {next(iter(self.splits))}; remove it there, or prepare the "
                "splits one by one, each with a --name of its own"
            )
        return [numbers[name] for name in names]

    def record(self, split: str) -> dict[str, Any]:
        return {**self._sources[split].record(), "class_names": list(self.class_names)}

    def info(self, name: str | None) -> Any:
        from tensorflow_datasets.core import dataset_info, utils

        name = name or epath.Path(self.folder).resolve().name
        identity = dataset_info.DatasetIdentity(
            name=name, version=utils.Version(_VERSION), data_dir=self.folder, module_name=""
        )
        keys = ("image", "label") if self._label == "label" else None
        info = dataset_info.DatasetInfo(builder=identity, features=self.features(), supervised_keys=keys)
        return info.as_proto

    def features(self) -> Any:
        import tensorflow_datasets as tfds

        features = {"image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")}
        if self._label:
            classes = tfds.features.ClassLabel(names=list(self.class_names))
            features[self._label] = classes if self._label == "label" else tfds.features.Sequence(classes)
        return tfds.features.FeaturesDict(features)

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        source = self._sources[split]
        for index in range(start, stop):
            labels = [self._numbers[split][label] for label in source.labels(index)]
            try:
                image: bytes | Exception = source[index]["image"]
            except OSError as error:
                image = error
            yield Example(image, functools.partial(self._serialized, labels))

    def _serialized(self, labels: list[int], image: bytes) -> bytes:
        example: dict[str, Any] = {"image": image}
        if self._label:
            example[self._label] = labels if self._label == "labels" else labels[0]
        return self._serializer.get_tf_example(example).SerializeToString(deterministic=True)

    @functools.cached_property
    def _serializer(self) -> Any:
        from tensorflow_datasets.core import example_serializer

        return example_serializer.ExampleSerializer(self.features().get_serialized_info())

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_serializer"}

    def describe(self, split: str, index: int) -> str:
        return self._sources[split].describe(index)


def _has(folder: epath.Path, kind: str) -> bool:
    """Returns whether a folder is that of a split."""
    return folder.is_dir() and (kind == "folder" or tars.has_tars(folder))


def _has_label_file(folder: epath.Path) -> bool:
    path = folder / label_file.NAME
    return path.exists() and label_file.is_one(path)


def _source(kind: str, data_dir: str, split: str, labelled: bool, several: bool) -> Source:
    # The section `data` is that of training, in which every class must have images.
    section = "data" if split == layouts.TRAIN else f"evaluations.{split}"
    if kind == "tars":
        return tars.TarsSource(data_dir, split, section, labelled=labelled)
    return FolderSource(data_dir, split, section, max_labels=(2 if several else 1) if labelled else 0)
