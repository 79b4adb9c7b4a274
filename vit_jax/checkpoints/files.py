"""Reads and writes files, local or in a bucket, so that a file is either written whole or left as it was."""

import contextlib
import io
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from etils import epath

from vit_jax.errors import UserError


def write_json(path: epath.PathLike, value: Any, *, shared: bool = False) -> None:
    """Writes `value` to a file as indented JSON. If this fails, an existing file is left as it was.

    `shared` says whether several processes may write this file at once.
    """
    with replacing(epath.Path(path), shared=shared) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: epath.PathLike) -> Any:
    """Returns the value in a JSON file. Raises UserError if the file is not valid JSON."""
    return parsed_json(path, epath.Path(path).read_bytes())


def parsed_json(path: epath.PathLike, text: str | bytes) -> Any:
    """Returns the value of a JSON text, which comes from the file `path`. Raises UserError if it is not valid JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({line(error)}); restore it or move it away") from error


@contextlib.contextmanager
def replacing(path: epath.Path, *, shared: bool = False) -> Iterator[epath.Path]:
    """Yields a temporary path beside `path` to write to, and renames it to `path` when the block ends.

    If the block raises, the temporary file is removed. If the process is killed, `path` is unchanged, and the temporary
    file `.NAME.partial` stays.

    Args:
        path: the file to replace or create.
        shared: whether several processes may write this file at once. Each then has a temporary file of its own,
            `.NAME.*.partial`.
    """
    own = f".{uuid.uuid4().hex}" if shared else ""
    temporary = path.parent / f".{path.name}{own}.partial"
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)


@contextlib.contextmanager
def replacing_all(paths: Sequence[epath.Path]) -> Iterator[list[epath.Path]]:
    """Yields a temporary path beside each of `paths`, and renames them all, in order, when the block ends.

    If the block or a rename raises, all of `paths` are as they were before.
    """
    with contextlib.ExitStack() as undo:
        temporaries = [path.parent / f".{path.name}.partial" for path in paths]
        for temporary in temporaries:
            undo.callback(temporary.unlink, missing_ok=True)
        yield temporaries
        kept: list[epath.Path] = []
        for path, temporary in zip(paths, temporaries, strict=True):
            if path.exists():
                before = path.parent / f".{path.name}.before"
                path.replace(before)
                undo.callback(before.replace, path)
                kept.append(before)
            else:
                undo.callback(path.unlink, missing_ok=True)
            temporary.replace(path)
        undo.pop_all()
    for before in kept:
        before.unlink(missing_ok=True)


class Lines:
    """A file that grows by whole lines, so that a program that is killed leaves whole lines.

    With the first line it is made, or emptied if it is there (see `check_place`). An object in a bucket can't grow; it
    appears when it is closed.
    """

    def __init__(self, path: epath.PathLike) -> None:
        self._path, self._length = epath.Path(path), 0
        self._file: Any = None

    def write(self, text: str) -> None:
        """Appends lines, each with its line break, by one call of the operating system.

        Raises:
            UserError: they can't be written; a part of them that was written is cut off again.
        """
        content = text.encode("utf-8", "surrogateescape")  # names of files may hold any bytes
        with _writing(self._path):
            if self._file is None:
                self._file = self._path.open("wb") if "://" in str(self._path) else io.FileIO(self._path, "wb")
            try:
                if (written := self._file.write(content)) != len(content):  # the disk is almost full
                    self._file.write(content[written:])
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(self._length)
                raise
        self._length += len(content)

    def write_json(self, value: Any) -> None:
        """Appends a line of JSON; raises UserError as `write`."""
        self.write(json.dumps(value) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._file is not None:
            with _writing(self._path):
                self._file.close()


@contextlib.contextmanager
def _writing(path: epath.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or line(error)
        raise UserError(f"{path} can't be written ({reason}); mend that or name another place") from error


def write_npz(path: epath.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a `.npz`. If this fails, an existing file is left as it was, and UserError is raised."""
    with _writing(epath.Path(path)), replacing(epath.Path(path)) as temporary, temporary.open("wb") as file:
        np.savez(file, **dict[str, Any](arrays))


def check_place(path: epath.Path, overwrite: bool, sources: Sequence[epath.Path] = ()) -> None:
    """Raises UserError if a file can't be written to `path`.

    Args:
        path: the file to write.
        overwrite: whether an existing file may be replaced.
        sources: files that are read while `path` is written, and that it therefore must not be.
    """
    if "://" not in str(path) and not path.parent.is_dir():  # buckets have no folders
        raise UserError(f"there is no folder {path.parent} to write to; make it first")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it")
    if "://" not in str(path) and not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{path} can't be written, because the permission is missing; name another place")
    if path.exists():
        if any(path.resolve() == source.resolve() for source in sources):
            raise UserError(f"{path} is read while it would be written; name another file")
        if not overwrite:
            raise UserError(f"{path} is there already; add --overwrite (overwrite=True), or name another file")


def check_places(places: Mapping[str, str | None], overwrite: bool) -> None:
    """Raises UserError if files can't be written, or two of them are the same; see `check_place`.

    Args:
        places: the files to write, by the flags that name them; None for those that are not asked for.
        overwrite: whether existing files may be replaced.
    """
    flags: dict[epath.Path, str] = {}
    for flag, place in places.items():
        if place is None:
            continue
        check_place(path := epath.Path(place), overwrite)
        if other := flags.get(path.resolve()):
            raise UserError(f"{other} and {flag} are both {place}; name two files")
        flags[path.resolve()] = flag


def check_folder(folder: epath.Path, what: str) -> None:
    """Raises UserError if a local folder, which need not exist, can't be made or written; does not look at buckets.

    Args:
        folder: an absolute path, or one in a bucket.
        what: what the folder is to the user, such as `the workdir`.
    """
    if "://" in str(folder):
        return
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"{what} {folder} can't be a folder, because {nearest} is a file; name another one")
    if not os.access(nearest, os.W_OK):
        raise UserError(f"{what} {folder} can't be written, because {nearest} can't; name another one")


def line(error: Exception) -> str:
    """Returns the text of an error on one line.

    Of a text longer than 250 characters, the first 100 and the last 150 are kept, because the errors of storage
    libraries say the reason at their end.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 250 else f"{text[:100]} … {text[-150:]}"
