"""Reading and writing small files, local or in a bucket: whole or not at all."""

import contextlib
import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from vit_jax.errors import UserError


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes indented JSON, whole or not at all."""
    with replacing(epath.Path(path)) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: epath.PathLike) -> Any:
    """Raises UserError where the file is not JSON."""
    return parsed_json(path, epath.Path(path).read_bytes())


def parsed_json(path: epath.PathLike, text: str | bytes) -> Any:
    """Raises UserError, naming `path` where it is from, where the text is not JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({line(error)}); restore it or move it away") from error


@contextlib.contextmanager
def replacing(path: epath.Path, *, shared: bool = False) -> Iterator[epath.Path]:
    """Yields a file beside `path`, and moves it there at the end. A kill or an error leaves no half file.

    With `shared`, each call writes to a name of its own, as several processes may write the same file at once. A kill
    then leaves `.NAME.*.partial`, which nothing reads.
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
    """Yields a file to write to beside each of `paths`, and moves them all to their places at the end, in order.

    An error, in the moves too, leaves all of `paths` as they were.
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


def check_place(path: epath.Path, overwrite: bool, sources: Sequence[epath.Path] = ()) -> None:
    """Raises UserError where a model can't be written to `path`."""
    if "://" not in str(path) and not path.parent.is_dir():  # buckets have no folders
        raise UserError(f"there is no folder {path.parent} to write to; make it first")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it")
    if path.exists():
        if any(path.resolve() == source.resolve() for source in sources):
            raise UserError(f"{path} is read while it would be written; name another file")
        if not overwrite:
            raise UserError(f"{path} is there already; add --overwrite (overwrite=True), or name another file")


def line(error: Exception) -> str:
    """Returns what an error says on one line; of a long text the beginning and the end, where storage layers reason."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 250 else f"{text[:100]} … {text[-150:]}"
