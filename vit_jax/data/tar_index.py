"""Finds the images in tar files, so that each can be read without the others.

A tar is a class, and its name without `.tar` is that of the class; the images may lie anywhere in it. A tar that holds
tars, such as ImageNet's ILSVRC2012_img_train.tar, stands for the tars in it. The tars must not be compressed, because
what is compressed can't be read from the middle.
"""

import collections
import dataclasses
import functools
import hashlib
import io
import itertools
import logging
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np
from etils import epath

from vit_jax import progress
from vit_jax.data import listing
from vit_jax.errors import UserError

SUFFIX = ".tar"
_BLOCK = 512  # bytes; a tar consists of blocks, and a block of zeros marks its end
_LOG = logging.getLogger(__name__)
_TABLE = np.dtype(  # 24 bytes an image, of which ImageNet-21k has 14 million
    [("start", np.int64), ("size", np.uint32), ("after", np.uint32), ("tar", np.int32), ("label", np.int32)]
)


@dataclasses.dataclass(frozen=True)
class Index:
    """The images in some tars.

    Attributes:
        class_names: the names of the classes, sorted.
        table: for each image, in the order of the classes and then of the tar, the byte of its tar where its content
            starts, the size of the content, how many bytes before it its header starts, the number of the tar, and the
            label.
        digest: tells these images from others, by their names, sizes and labels.
    """

    class_names: tuple[str, ...]
    table: np.ndarray
    digest: str


def read(tars: Sequence[epath.Path]) -> Index:
    """Returns the index of some tars. Only the headers of the files in them are read.

    Raises:
        UserError: a tar can't be read, is cut off or damaged; a class occurs twice or has no images; or there are both
            tars of images and tars of tars.
    """
    classes = [found for number, path in enumerate(tars) for found in _classes(number, path)]
    classes.sort(key=lambda found: found.name)
    for before, after in itertools.pairwise(classes):
        if before.name == after.name:
            raise UserError(
                f"{tars[before.tar]} and {tars[after.tar]} both have the class {after.name}; move one of them elsewhere"
            )
    if len({found.inside for found in classes}) > 1:
        outer, plain = (next(tars[c.tar] for c in classes if c.inside is inside) for inside in (True, False))
        raise UserError(
            f"{outer.parent} has both tars of tars ({outer.name}) and tars of images ({plain.name}), so it isn't clear "
            "which are the classes; move one kind to another folder"
        )
    return _indexed(tars, classes)


def name_of(path: epath.Path, header: int) -> str:
    """Returns the name of the file in a tar whose header starts at byte `header`."""
    with path.open("rb") as file:
        file.seek(header)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            member = tar.next()
    return member.name if member else f"byte {header}"


@dataclasses.dataclass(frozen=True)
class _Class:
    """A tar of images: the number of the file that it is or lies in; for the latter, its first byte and its size."""

    name: str
    tar: int
    inside: bool
    start: int = 0
    size: int = 0


def _classes(number: int, path: epath.Path) -> list[_Class]:
    """Returns the class that a tar is, or those of the tars in it."""
    with _opened(path) as file:
        first = next(_members(file, str(path)), None)
        if first is None or not first.name.endswith(SUFFIX):
            return [_Class(_stem(path.name), number, False)]
        file.seek(0)
        members = list(_members(file, str(path)))
    if strays := [member.name for member in members if not member.name.endswith(SUFFIX)]:
        raise UserError(f"{path} holds tars and other files, such as {strays[0]}; unpack it into a folder of tars")
    return [_Class(_stem(m.name), number, True, m.offset_data, m.size) for m in members]


def _indexed(tars: Sequence[epath.Path], classes: Sequence[_Class]) -> Index:
    rows: list[np.ndarray] = []
    empty: list[str] = []
    left_out: collections.Counter[str] = collections.Counter()
    digest = hashlib.sha256()
    count = progress.lines("indexing the tars")
    for label, of_class in enumerate(classes):
        path = tars[of_class.tar]
        images = []
        with _opened(path) as file:
            where = f"{path}: {of_class.name}{SUFFIX}" if of_class.inside else str(path)
            inner = _window(file, of_class.start, of_class.size) if of_class.inside else file
            for member in _members(inner, where):
                start = of_class.start + member.offset_data
                if not listing.is_image(member.name, functools.partial(_window, file, start, member.size)):
                    left_out[posixpath.splitext(member.name)[1].lower() or "without a suffix"] += 1
                    continue
                images.append((start, member.size, member.offset_data - member.offset, of_class.tar, label))
                digest.update(f"{label}\0{member.name}\0{member.size}\0".encode(errors="surrogateescape"))
        rows.append(np.array(images, _TABLE))
        if not images:
            empty.append(of_class.name)
        count(len(images))
    if left_out:
        _LOG.warning("%s: left out files that are no images: %s", tars[0].parent, listing.counts(left_out))
    if empty:
        raise UserError(
            f"there are no images in the tars of the classes {listing.shortened(empty)} of {tars[0].parent}; move them "
            "elsewhere, or write them anew"
        )
    names = tuple(of_class.name for of_class in classes)
    return Index(names, np.concatenate(rows), digest.hexdigest())


def _stem(name: str) -> str:
    return posixpath.basename(name).removesuffix(SUFFIX)


def _opened(path: epath.Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"can't open {path} ({error.strerror or error}); mend or remove it") from error


def _members(file: IO[bytes], where: str) -> Iterator[tarfile.TarInfo]:
    """Yields the regular files of a tar, without hidden ones. Logs which others have a name of an image.

    Python's tarfile takes a damaged header in the middle for the end, so what comes after the last file is checked.

    Raises:
        UserError: `where` is no tar, is compressed, is cut off or damaged.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it remembers all of them
                hidden = posixpath.basename(member.name).startswith(".")
                if member.isreg() and not member.issparse() and not hidden:
                    yield member
                elif not member.isdir() and not hidden:
                    _LOG.warning("%s: %s is a link or a special file, and is left out", where, member.name)
            file.seek(tar.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise tarfile.ReadError("the mark of its end is missing")
    except tarfile.TarError as error:
        raise UserError(
            f"{where} can't be read as an uncompressed tar, or is cut off or damaged ({error}); download it anew, or "
            "unpack it if it is compressed"
        ) from error


def _window(file: IO[bytes], start: int, size: int) -> IO[bytes]:
    """Returns a part of a file, `size` bytes from `start` on, as a file."""
    return io.BufferedReader(_Window(file, start, size))


class _Window(io.RawIOBase):
    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, into: Any) -> int:
        self._file.seek(self._start + self._at)
        found = self._file.read(max(0, min(len(into), self._size - self._at)))
        into[: len(found)] = found
        self._at += len(found)
        return len(found)
