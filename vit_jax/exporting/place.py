"""Where an exported file is written, and whether it can be. This module does not import JAX."""

import importlib.util
import json

from etils import epath

from vit_jax.checkpoints import files
from vit_jax.errors import UserError
from vit_jax.values import either

MADE_BY = "vit_jax.export"  # the value of made_by in a description, by which it is known
PACKAGES: dict[str, tuple[str, ...]] = {".onnx": ("onnx", "jax2onnx", "onnxruntime"), ".stablehlo": ()}


def description_of(path: epath.Path) -> epath.Path:
    """Returns the path of the JSON that describes an exported file."""
    return path.with_name(f"{path.name}.json")


def check(path: epath.Path, overwrite: bool) -> None:
    """Raises UserError if a file can't be exported to `path`.

    Args:
        path: the file to write; its suffix says the format.
        overwrite: whether an existing file, and the JSON that describes it, may be replaced. JSON that `export` did not
            write is never replaced.
    """
    if path.suffix not in PACKAGES:
        raise UserError(f"{path} has no suffix that says a format; name a file that ends in {either(tuple(PACKAGES))}")
    if missing := [name for name in PACKAGES[path.suffix] if importlib.util.find_spec(name) is None]:
        raise UserError(f"{path.suffix} files need the package {missing[0]}; pip install 'vit_jax[export]'")
    files.check_place(path, overwrite)
    beside = description_of(path)
    if beside.exists() and not _is_description(beside):
        raise UserError(f"{beside} is there and describes no exported file; move it away, or name another file")
    files.check_place(beside, overwrite)


def _is_description(path: epath.Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("made_by") == MADE_BY
