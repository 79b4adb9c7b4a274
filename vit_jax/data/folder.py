"""Reads the user's own images: a folder for each split, with a folder for each class (see layouts.py).

Images with several classes or none are anywhere below the split's folder, which has a file labels.csv (see
label_file.py).
"""

import collections
import functools
import hashlib
import logging
from typing import Any

import numpy as np
from etils import epath

from vit_jax.data import label_file, layouts, listing
from vit_jax.errors import UserError

_LOG = logging.getLogger(__name__)


class FolderSource:
    """One split of an image folder. The classes are its sub-folders, or the names in its labels.csv, sorted.

    The files are in a shuffled order that depends on their number alone. A slice such as train[:10%] therefore holds
    images of every class, and always the same ones as long as the files stay the same.
    """

    def __init__(
        self,
        data_dir: str | None,
        split: str,
        section: str,
        asked: layouts.Asked = layouts.NOTHING,
        *,
        max_labels: int = 1,
    ) -> None:
        """Finds the split and its classes. The images are listed when they are first needed.

        Args:
            data_dir: the folder.
            split: a base split.
            section: the section of the config, for messages. If it is `data`, the training section, every class must
                have images.
            asked: all the splits of the folder that the config uses.
            max_labels: the most labels of an image. With 0 no labels are read, and the images lie anywhere in the
                split's folder. With 2 or more the labels are those of its labels.csv, if there is one.

        Raises:
            UserError: the folder, the split or its classes are missing.
        """
        if data_dir is None:
            raise UserError(
                f"where are the images? set config.{section}.data_dir to a folder laid out {layouts.LAYOUT}"
            )
        self._split, self._trains, self._labelled = split, section == "data", max_labels > 0
        self._by_file = max_labels > 1
        self._labels: dict[str, tuple[int, ...]] | None = None  # by path, if a labels.csv is read
        with listing.looking_at(data_dir):
            self._find(epath.Path(data_dir).expanduser(), section, asked)

    def _find(self, root: epath.Path, section: str, asked: layouts.Asked) -> None:
        if not root.is_dir():
            raise UserError(
                f"config.{section}.data_dir is {root}, and there is no such folder; it takes {layouts.LAYOUT}"
            )
        self._place = layouts.find(root, self._split, section, asked, by_class=self._labelled, by_file=self._by_file)
        self._folder = self._place.folder
        path = self._folder / label_file.NAME
        if not self._labelled:
            self.class_names: tuple[str, ...] = ()
        elif self._by_file and path.exists():
            found = label_file.read(path)
            self.class_names = tuple(sorted({name for names in found.values() for name in names}))
            numbers = {name: number for number, name in enumerate(self.class_names)}
            self._labels = {image: tuple(numbers[name] for name in names) for image, names in found.items()}
        elif path.exists() and label_file.is_one(path):
            raise UserError(
                f"{path} lists the labels of each image, and config.{section}.max_labels is 1; set it to 2 or more to "
                "read the file, or move the file away to take the folders as classes"
            )
        else:
            self.class_names = listing.folders(self._folder)
        if not self.class_names and self._labelled:
            holds = listing.shortened(sorted(path.name for path in listing.visible(self._folder))) or "nothing"
            raise UserError(f"{self._folder} has no folders of classes; {layouts.instead('it', holds)}")
        self.identity = str(self._folder) + ("" if self._place.share == "all" else f" ({self._place.share})")

    @functools.cached_property
    def _files(self) -> list[tuple[tuple[int, ...], str]]:
        """The labels of each image of the split, and its path below `_folder`, in an order that is shuffled once.

        The order depends on the number of images alone. Images that are held out are left out, and counted in `_left`.

        Raises:
            UserError: there are no images, or none of a class to train on, or labels.csv names one that is missing.
        """
        found = self._listed()
        order = np.random.default_rng(0).permutation(len(found))
        files = [found[i] for i in order[self._place.positions(len(order))]]
        self._left = len(order) - len(files)
        lost = set(range(len(self.class_names))) - {label for labels, _ in files for label in labels}
        if self._trains and lost:
            names = listing.shortened([self.class_names[label] for label in sorted(lost)])
            raise UserError(
                f"no images of the classes {names} of {self._folder} are left to train on, because all are held out "
                f"to test on; add images of them, or a folder test beside {layouts.TRAIN}"
            )
        return files

    def _listed(self) -> list[tuple[tuple[int, ...], str]]:
        """Returns the labels and the path of each image in the split's folder, sorted by class and path.

        Raises:
            UserError: there are no images, a class has none, or the labels.csv names an image that does not exist.
        """
        with listing.looking_at(str(self._folder)):
            if self._labelled and self._labels is None:
                found = listing.read(self._folder, self.class_names)
                self._check_classes(found)
                return [((label,), f"{self.class_names[label]}/{path}") for label, path in found.files]
            paths = [path for _, path in listing.read(self._folder, listing.ANYWHERE).files]
        if not paths:
            raise UserError(f"there are no images in {self._folder}; add images that Pillow reads")
        if self._labels is None:
            return [((), path) for path in paths]
        if missing := sorted(set(self._labels).difference(paths)):
            raise UserError(
                f"{self._folder / label_file.NAME} names {listing.shortened(missing)}, and no such image lies in the "
                "folder; add it or remove its line"
            )
        if without := [path for path in paths if path not in self._labels]:
            _LOG.warning(
                "%s: %d images have no line in %s and are left out, such as %s",
                self._folder,
                len(without),
                label_file.NAME,
                without[0],
            )
        return [(self._labels[path], path) for path in paths if path in self._labels]

    def _check_classes(self, found: listing.Listing) -> None:
        """Raises UserError if a class to train on, or every class, has no image; else warns of such classes."""
        spellings = collections.Counter(name.casefold() for name in self.class_names)
        if twice := [name for name in self.class_names if spellings[name.casefold()] > 1]:
            _LOG.warning("%s: the classes %s differ in upper and lower case only", self._folder, ", ".join(twice))
        if not found.without_images:
            return
        names = listing.shortened(list(found.without_images))
        holds = listing.shortened([f"{name} holds {what}" for name, what in found.without_images.items()])
        if self._trains or not found.files:
            raise UserError(
                f"there are no images in the folders {names} of {self._folder} ({holds}); add images that Pillow "
                "reads, or remove these folders"
            )
        _LOG.warning("%s has no images of the classes %s (%s)", self._folder, names, holds)

    def record(self) -> dict[str, Any]:
        """Returns what tells these images from others, as JSON values: a digest of their paths and labels in order."""
        digest = hashlib.sha256()
        for labels, path in self._files:
            digest.update(f"{path}\0{','.join(map(str, labels))}\0".encode(errors="surrogateescape"))
        return {
            "dataset": "folder",
            "split": self._split,
            "num_examples": len(self),
            "held_out": self._left if self._place.share == "kept" else 0,
            "digest": digest.hexdigest(),
        }

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self._read(index), "labels": self.labels(index)}

    def labels(self, index: int) -> tuple[int, ...]:
        return self._files[index][0]

    def describe(self, index: int) -> str:
        return str(self._path(index))

    def _read(self, index: int) -> bytes:
        folder = str(self._folder)
        if "://" in folder:
            return self._path(index).read_bytes()
        with open(f"{folder}/{self._files[index][1]}", "rb", buffering=0) as file:  # several times as fast
            return file.read()

    def _path(self, index: int) -> epath.Path:
        return self._folder / self._files[index][1]
