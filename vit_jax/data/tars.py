"""Reads images from a folder of tar files, one for each class, as ImageNet-21k is distributed, without unpacking them.

The tars are DIR/SPLIT/CLASS.tar; or DIR/CLASS.tar, and then all the images belong to the split "train". ImageNet's
training images, a tar of such tars, are read too (see tar_index.py).
"""

import functools
from typing import Any

import numpy as np
from etils import epath

from vit_jax.data import layouts, listing, tar_index
from vit_jax.data.once import once
from vit_jax.errors import UserError

LAYOUT = "DIR/CLASS.tar, or DIR/SPLIT/CLASS.tar"
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class TarsSource:
    """One split of a folder of tars. The classes are the names of the tars, sorted.

    The images are in a shuffled order that depends on their number alone, as in an image folder. The index of the tars
    is kept in memory, and sent along when the object is pickled.
    """

    def __init__(self, data_dir: str | None, split: str, section: str, *, labelled: bool = True) -> None:
        """Finds the tars of the split and reads the headers in them.

        Args:
            data_dir: the folder.
            split: a base split.
            section: the section of the config, for messages.
            labelled: whether images have labels.

        Raises:
            UserError: the folder or the split is missing, or `tar_index.read` fails.
        """
        if data_dir is None:
            raise UserError(f"where are the tars? set config.{section}.data_dir to a folder laid out {LAYOUT}")
        root = epath.Path(data_dir).expanduser()
        with listing.looking_at(str(root)):
            if not root.is_dir():
                raise UserError(f"config.{section}.data_dir is {root}, and there is no such folder; it takes {LAYOUT}")
            self._folder = find(root, split)
            self._tars = _tars(self._folder)
            self._index = once(("tars", str(self._folder)), lambda: tar_index.read(self._tars))
        self._split, self._labelled = split, labelled
        self.class_names = self._index.class_names if labelled else ()
        self.identity = str(self._folder)

    def record(self) -> dict[str, Any]:
        """Returns what tells these images from others, as JSON values: a digest of their names, sizes and labels."""
        return {
            "dataset": "tars",
            "split": self._split,
            "num_examples": len(self),
            "digest": self._index.digest,
        }

    def __len__(self) -> int:
        return len(self._index.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._row(index)
        size = int(row["size"])
        with self._tars[row["tar"]].open("rb") as file:
            file.seek(int(row["start"]))
            image = file.read(size)
        if len(image) < size:
            raise OSError("its tar has become shorter since it was opened")
        return {"image": image, "labels": self.labels(index)}

    def labels(self, index: int) -> tuple[int, ...]:
        return (int(self._row(index)["label"]),) if self._labelled else ()

    def describe(self, index: int) -> str:
        row = self._row(index)
        path = self._tars[row["tar"]]
        return f"{path}: {tar_index.name_of(path, int(row['start']) - int(row['after']))}"

    def _row(self, index: int) -> np.void:
        return self._index.table[self._order[index]]

    @functools.cached_property
    def _order(self) -> np.ndarray:
        """The shuffled order, as that of `folder.FolderSource`."""
        return np.random.default_rng(0).permutation(len(self))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_order"}


def find(root: epath.Path, split: str) -> epath.Path:
    """Returns the folder with the tars of a split.

    Raises:
        UserError: there is none, or the tars of the split lie in two places.
    """
    here, below = _tars(root), _tars(root / split) if (root / split).is_dir() else []
    if here and below:
        raise UserError(
            f"{root} has both tars, such as {here[0].name}, and a folder {split} with tars, so it isn't clear which "
            f"are the images of the split {split!r}; move the former below {root / layouts.TRAIN}, or elsewhere"
        )
    if below:
        return root / split
    if here and split == layouts.TRAIN:
        return root
    holds = listing.shortened(sorted(path.name for path in listing.visible(root))) or "nothing"
    slices = f"; a part of the only split is {layouts.TRAIN}[99%:], for example" if here else ""
    raise UserError(f"{root} has no tars of the split {split!r}; it holds {holds}, and {LAYOUT} is expected{slices}")


def has_tars(folder: epath.Path) -> bool:
    """Returns whether a folder has tars. Raises UserError if some are compressed."""
    return bool(_tars(folder))


def _tars(folder: epath.Path) -> list[epath.Path]:
    """Returns the tars in a folder, sorted. Raises UserError if some are compressed."""
    paths = sorted(listing.visible(folder))
    if compressed := [path.name for path in paths if path.name.endswith(_COMPRESSED)]:
        raise UserError(
            f"{folder} has compressed tars ({listing.shortened(compressed)}), in which no image can be read without "
            "those before it; decompress or remove them"
        )
    return [path for path in paths if path.name.endswith(tar_index.SUFFIX)]
