"""Lists the image files in a folder that has one sub-folder for each class.

A file is an image if it has the suffix of a format that Pillow reads. For a file without a suffix, or with an unknown
one, the first bytes decide. Sub-folders of a class's folder are read too, and symbolic links to folders are followed.
"""

import collections
import contextlib
import dataclasses
import functools
import logging
import mimetypes
import os
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

from etils import epath
from PIL import Image

from vit_jax.data.once import once
from vit_jax.errors import UserError

_LOG = logging.getLogger(__name__)
# Formats that Pillow registers but can't decode alone; it needs Ghostscript, Windows or a handler from the user.
_NOT_DECODED = ("BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF")
# Formats that can be recognised safely by the first bytes of the file.
_TOLD_BY_CONTENT = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "PSD", "QOI", "TIFF", "WEBP")
_PROGRESS_SECONDS = 5.0
_NAMED = 3  # how many skipped files a message names
ANYWHERE = ("",)  # given to `read` instead of class names: lists the images anywhere in the folder, with label 0
_HIDDEN, _LOOP = "hidden", "linked to a folder that it lies in"


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images in a folder of classes, and the classes that have none."""

    files: tuple[tuple[int, str], ...]  # (label, path relative to the class's folder), sorted by label, then by path
    without_images: dict[str, str]  # the name of a class without images -> what its folder holds, in words


class _Entry(NamedTuple):
    """A file or folder. `is_image` is a function, because it may have to open the file."""

    name: str
    path: str
    is_folder: bool
    is_image: Callable[[], bool]


@contextlib.contextmanager
def looking_at(folder: str) -> Iterator[None]:
    """Returns a context in which an OSError, from listing `folder` or a folder below it, becomes a UserError."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise UserError(f"can't list the folder {where} ({error.strerror or error}); mend or remove it") from error


def read(folder: epath.Path, class_names: tuple[str, ...]) -> Listing:
    """Returns the images `folder`/CLASS/**/IMAGE of all the classes, and logs which files it skips.

    With `ANYWHERE` as `class_names` it returns all the images below `folder`. Within `opened_once` a folder is listed
    only once.

    Raises:
        OSError: a folder can't be listed; see `looking_at`.
    """
    return once(("listing", str(folder), class_names), lambda: _read(folder, class_names))


def folders(folder: epath.Path) -> tuple[str, ...]:
    """Returns the names of the sub-folders of `folder`, sorted, without hidden ones."""
    return tuple(sorted(path.name for path in visible(folder) if path.is_dir()))


def visible(folder: epath.Path) -> list[epath.Path]:
    """Returns the files and folders in `folder` that are not hidden.

    Hidden files are, for example, the ._NAME.jpg that some systems create beside NAME.jpg.
    """
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def has_image(folder: epath.Path) -> bool:
    """Returns whether an image lies directly in `folder`. Sub-folders are not searched."""
    return any(not e.is_folder and not e.name.startswith(".") and e.is_image() for e in _entries(str(folder)))


def counts(kinds: collections.Counter[str]) -> str:
    """Returns in words how many there are of each kind, the most frequent first."""
    return shortened([f"{count:,} {kind}" for kind, count in sorted(kinds.items(), key=lambda kind: (-kind[1], kind))])


def is_image(name: str, opened: Callable[[], IO[bytes]]) -> bool:
    """Returns whether a file is an image, by its name, or else by its first bytes, for which it is opened."""
    if _has_suffix(name):
        return True
    suffix = os.path.splitext(name)[1].lower()
    return suffix not in _other_suffixes() and _begins_like_an_image(opened)


def shortened(names: tuple[str, ...] | list[str], most: int = 8) -> str:
    """Returns the first `most` names joined by commas, followed by "and N more" if there are more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


@functools.cache
def suffixes() -> frozenset[str]:
    """Returns the file suffixes, such as ".jpg", of the formats that the installed Pillow decodes, in lower case."""
    known = Image.registered_extensions()
    read = {suffix for suffix, format in known.items() if format in Image.OPEN and format not in _NOT_DECODED}
    return frozenset(read | {".mpo"})  # several JPEGs in one file, as cameras with two lenses write


def _read(folder: epath.Path, class_names: tuple[str, ...]) -> Listing:
    walk = _Walk(str(folder))
    files: list[tuple[int, str]] = []
    without_images = {}
    everything: collections.Counter[str] = collections.Counter()
    for label, name in enumerate(class_names):
        found, left_out = walk.of_class(name)
        files.extend((label, path) for path in sorted(found))
        everything.update(left_out)
        if not found:
            without_images[name] = counts(left_out) or "nothing"
    loose = (e.name for e in _entries(str(folder)) if not e.is_folder and e.name[0] != "." and e.is_image())
    if class_names != ANYWHERE and (outside := list(loose)):
        outside.sort()
        _LOG.warning("%s: images outside of the classes' folders are not read: %s", folder, shortened(outside, _NAMED))
    del everything[_HIDDEN], everything[_LOOP]
    if number := everything.total():
        files_are = f"{number:,} files, which are no images" if number > 1 else "1 file, which is no image"
        examples = ", ".join(walk.examples)
        _LOG.warning("%s: left out %s (%s), such as %s", folder, files_are, counts(everything), examples)
    return Listing(tuple(files), without_images)


class _Walk:
    """Finds the images of each class below a folder, and logs its progress every few seconds."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._files, self._said = 0, time.monotonic()
        self.examples: list[str] = []  # the first files that are skipped

    def of_class(self, name: str) -> tuple[list[str], collections.Counter[str]]:
        """Searches the folder of the class `name` and its sub-folders.

        Returns:
            The paths of the images, relative to that folder; and how many files and folders are skipped, by kind. A
            kind is a suffix, "without a suffix", `_HIDDEN` or `_LOOP`.
        """
        images: list[str] = []
        left_out: collections.Counter[str] = collections.Counter()
        # The folders still to be searched, each with the identities of the folders that contain it. If one of these is
        # found again inside of itself, by a symbolic link, it is not searched.
        waiting: list[tuple[str, frozenset]] = [("", frozenset())]
        while waiting:
            below, around = waiting.pop()
            place = os.path.join(self._root, name, below)
            here = _identity(place)
            if here in around:
                left_out[_LOOP] += 1
                _LOG.warning("%s links to a folder that it lies in, and is not followed", place.rstrip("/"))
                continue
            for entry in _entries(place):
                path = below + entry.name
                if entry.name.startswith("."):
                    left_out[_HIDDEN] += 1
                elif entry.is_folder:
                    waiting.append((path + "/", around | {here} if here else around))
                elif entry.is_image():
                    images.append(path)
                else:
                    kind = os.path.splitext(entry.name)[1].lower() or "without a suffix"
                    left_out[kind] += 1
                    if len(self.examples) < _NAMED:
                        self.examples.append(f"{name}/{path}")
                self._count()
        return images, left_out

    def _count(self) -> None:
        self._files += 1
        if self._files % 1000 == 0 and time.monotonic() - self._said > _PROGRESS_SECONDS:
            self._said = time.monotonic()
            _LOG.info("listing %s: %s files so far", self._root, f"{self._files:,}")


def _entries(folder: str) -> Iterator[_Entry]:
    return _remote_entries(folder) if "://" in folder else _local_entries(folder)


def _local_entries(folder: str) -> Iterator[_Entry]:
    with os.scandir(folder) as entries:
        for entry in entries:
            looks = functools.partial(is_image, entry.name, functools.partial(_opened, entry.path))
            yield _Entry(entry.name, entry.path, entry.is_dir(), looks)


def _remote_entries(folder: str) -> Iterator[_Entry]:
    """Yields the entries of a folder in a bucket.

    Each question whether a name is a folder takes a request, so a name with the suffix of an image is assumed to be a
    file.
    """
    for path in epath.Path(folder).iterdir():
        is_folder = not _has_suffix(path.name) and path.is_dir()
        looks = functools.partial(is_image, path.name, functools.partial(_opened, str(path)))
        yield _Entry(path.name, str(path), is_folder, looks)


def _has_suffix(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in suffixes()


def _opened(path: str) -> IO[bytes]:
    if "://" not in path and not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("no regular file")  # reading from a named pipe would never end
    return epath.Path(path).open("rb")


@functools.cache
def _other_suffixes() -> frozenset[str]:
    """Returns the suffixes that are known to mean something other than an image, such as .txt.

    They come from Python's own table and not from the system's, so they are the same on every machine.
    """
    known = mimetypes.MimeTypes().types_map[True]
    other = {suffix for suffix, kind in known.items() if not kind.startswith("image/")}
    not_decoded = {suffix for suffix, format in Image.registered_extensions().items() if format in _NOT_DECODED}
    return frozenset(other | not_decoded) - suffixes()


def _begins_like_an_image(opened: Callable[[], IO[bytes]]) -> bool:
    try:
        with opened() as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of a very large image when it is read
            Image.open(file, formats=[format for format in _TOLD_BY_CONTENT if format in Image.OPEN])
    except Image.DecompressionBombError:
        pass
    except Exception:  # decoders raise many kinds of errors
        return False
    return True


def _identity(folder: str) -> tuple[int, int] | None:
    """Returns a value that is equal for two paths to the same folder; None for buckets, which have no links."""
    if "://" in folder:
        return None
    found = os.stat(folder)
    return found.st_dev, found.st_ino
