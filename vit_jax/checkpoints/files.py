"""Reading and writing small files and arrays, local or in a bucket: whole or not at all."""

import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath

from vit_jax.errors import UserError


def write_npz(path: epath.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an uncompressed `.npz` beside its place and then moves it there, so that a kill leaves no half file."""

    def write(temporary: epath.Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    _replace(epath.Path(path), write)


def read_npz(path: epath.PathLike) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`.

    Raises:
        UserError: the file is missing, cut short, no `.npz`, or holds pickled objects.
    """
    path = epath.Path(path)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except (zipfile.BadZipFile, EOFError, OSError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is no whole .npz file ({_line(error)}); fetch or convert it again") from error
    except ValueError as error:
        raise UserError(f"{path} can't be read as plain arrays ({_line(error)}); pickles are refused") from error


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes indented JSON, whole or not at all."""
    _replace(epath.Path(path), lambda temporary: temporary.write_text(json.dumps(value, indent=2) + "\n"))


def read_json(path: epath.PathLike) -> Any:
    """Raises UserError where the file is not JSON."""
    try:
        return json.loads(epath.Path(path).read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({_line(error)}); restore it or move it away") from error


def _replace(path: epath.Path, write: Callable[[epath.Path], None]) -> None:
    temporary = path.parent / f".{path.name}.partial"
    write(temporary)
    temporary.replace(path)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
