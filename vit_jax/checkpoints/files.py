"""Reading and writing small files, local or in a bucket: whole or not at all."""

import contextlib
import json
import uuid
from collections.abc import Iterator
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


def line(error: Exception) -> str:
    """Returns what an error says on one line; of a long text the beginning and the end, where storage layers reason."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 250 else f"{text[:100]} … {text[-150:]}"
