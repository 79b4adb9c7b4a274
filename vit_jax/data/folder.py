"""An image folder: DATA_DIR/SPLIT/CLASS/IMAGE."""

import functools

import numpy as np
from etils import epath

from vit_jax.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_LAYOUT = "DATA_DIR/SPLIT/CLASS/IMAGE.jpg"


class FolderSource:
    """One split of an image folder. The classes are its sub-folders, by name.

    Files come in an order that is shuffled once and for all, so that a slice such as train[:10%] holds images of every
    class, and always the same ones as long as the files stay the same.
    """

    def __init__(self, data_dir: str | None, split: str, section: str) -> None:
        """`section` of the config is named in errors.

        Raises:
            UserError: the folder, the split or its classes are missing.
        """
        if data_dir is None:
            raise UserError(f"where are the images? set config.{section}.data_dir to a folder laid out {_LAYOUT}")
        root = epath.Path(data_dir).expanduser()
        if not root.is_dir():
            raise UserError(f"config.{section}.data_dir is {data_dir}, and there is no such folder; it takes {_LAYOUT}")
        self._folder = root / split
        if not self._folder.is_dir():
            raise UserError(
                f"there is no folder {self._folder} for the split {split!r} of config.{section}.split; "
                f"{root} holds {_listing(root)}, and {_LAYOUT} is expected"
            )
        self.class_names = tuple(sorted(path.name for path in _visible(self._folder) if path.is_dir()))
        if not self.class_names:
            raise UserError(
                f"{self._folder} has no folders of classes; it holds {_listing(self._folder)}, "
                f"and {_LAYOUT} is expected"
            )
        self.identity = str(self._folder)

    @functools.cached_property
    def _files(self) -> list[tuple[int, str]]:
        """(label, file name) of each image."""
        files = [
            (label, path.name)
            for label, name in enumerate(self.class_names)
            for path in sorted(_visible(self._folder / name), key=lambda path: path.name)
            if path.suffix.lower() in EXTENSIONS
        ]
        if not files:
            raise UserError(
                f"there are no images in the folders {_shortened(self.class_names)} of {self._folder}; names ending in "
                f"{', '.join(EXTENSIONS)} are read"
            )
        return [files[i] for i in np.random.default_rng(0).permutation(len(files))]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> dict:
        return {"image": self._path(index).read_bytes(), "label": self.label(index)}

    def label(self, index: int) -> int:
        return self._files[index][0]

    def describe(self, index: int) -> str:
        return str(self._path(index))

    def _path(self, index: int) -> epath.Path:
        label, name = self._files[index]
        return self._folder / self.class_names[label] / name


def _visible(folder: epath.Path) -> list[epath.Path]:
    """Without hidden files, such as the ._NAME.jpg that some systems leave beside NAME.jpg."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _listing(folder: epath.Path) -> str:
    return _shortened(tuple(sorted(path.name for path in _visible(folder)))) or "nothing"


def _shortened(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
