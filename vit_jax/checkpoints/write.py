"""Writes a model's file and the JSON that describes it, without destroying other files.

An existing file is replaced only with `overwrite`. JSON that describes another model or a run is never replaced. All
paths are checked before anything is written, and after an error all files are as they were before.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from vit_jax.checkpoints import containers, files
from vit_jax.checkpoints.formats import FORMATS, Description, Format
from vit_jax.checkpoints.groups import file_shapes, to_file
from vit_jax.checkpoints.read import FORMAT_VERSION, KEY
from vit_jax.errors import UserError

_LOG = logging.getLogger(__name__)


def write(
    path: epath.PathLike,
    parameters: Mapping[str, np.ndarray],
    description: Description,
    format: str | None = None,
    *,
    overwrite: bool = False,
    sources: Sequence[epath.Path] = (),
) -> None:
    """Writes the file of a model, and the JSON that describes it.

    Args:
        path: the file, which ends in `.npz` or `.safetensors`.
        parameters: by published name; each is asked for once.
        description: the architecture, preprocessing and class names of the model.
        format: one of `FORMATS`; by default `original` for `.npz` and `timm` for `.safetensors`.
        overwrite: whether an existing file is replaced, with the JSON that describes it.
        sources: the files that `parameters` are read from, none of which may be `path`.

    Raises:
        UserError: the suffix does not belong to the format, the format can't hold a part of the model, the file exists
            already, its folder does not exist, or it can't be written.
    """
    path = epath.Path(path)
    target = _format_of(path, format)
    files.check_place(path, overwrite, sources)
    order = {name: i for i, name in enumerate(parameters)}  # in this order each array of the source is read once
    groups = sorted(target.groups(description.architecture), key=lambda g: order[g.names[0]] if g.names else -1)
    written = describe(description)
    beside = {"": written} if path.suffix == ".npz" else {}
    sides = _side_files(path, beside | target.sidecars(description), overwrite)
    try:
        # The JSON is renamed to its place first, so that the arrays are never there without it.
        with files.replacing_all([*sides, path]) as temporaries:
            containers.write_file(
                temporaries[-1],
                path.suffix,
                file_shapes(groups),
                to_file(groups, parameters, str(path)),
                {KEY: json.dumps(written)},
            )
            for temporary, value in zip(temporaries, sides.values(), strict=False):
                temporary.write_text(json.dumps(value, indent=2) + "\n")
    except OSError as error:
        reason = error.strerror or files.line(error)
        raise UserError(f"{path} can't be written ({reason}); mend that or name another place") from error


def _format_of(path: epath.Path, name: str | None) -> Format:
    """Returns the format to write: the one named `name`, or the default one for the suffix of `path`.

    Raises UserError if the format is not known, or if the suffix does not belong to it.
    """
    if name is None:
        default = {".npz": "original", ".safetensors": "timm"}
        if path.suffix not in default:
            raise UserError(f"{path} has no suffix that says a format; {' or '.join(default)} can be written")
        return FORMATS[default[path.suffix]]
    if name not in FORMATS:
        raise UserError(f"unknown format {name!r}; there are {', '.join(FORMATS)}")
    if path.suffix != FORMATS[name].suffix:
        raise UserError(f"{path} can't be of the format {name}, whose files end in {FORMATS[name].suffix}")
    return FORMATS[name]


def _side_files(path: epath.Path, values: Mapping[str, Any], overwrite: bool) -> dict[epath.Path, Any]:
    """Returns the JSON files to write beside `path`, by their paths, without those that hold the same JSON already.

    A name such as `config.json` may be taken by another model in the folder. The JSON is then written to
    `STEM.config.json`, with a warning, where STEM is the file's name without its suffix.

    Args:
        path: the model's file.
        values: the JSON by file name; the name "" means `STEM.json`.
        overwrite: whether JSON that describes `path` itself may be replaced.

    Raises:
        UserError: all names that the JSON can have are taken.
    """
    found: dict[epath.Path, Any] = {}
    for name, value in values.items():
        own = path.with_suffix(".json") if not name else path.parent / name
        if not _is_free(own, value, path, overwrite):
            if not name:
                raise UserError(f"{own} is there and describes something else; move it away, or name another file")
            other = path.parent / f"{path.stem}.{name}"
            if not _is_free(other, value, path, overwrite):
                raise UserError(f"{own} and {other} are there and describe other models; name a file in another folder")
            _LOG.warning(
                "%s is another model's or a run's and stays; what describes %s is in %s, and a library that looks for "
                "%s wants the model in a folder of its own",
                own,
                path.name,
                other.name,
                name,
            )
            own = other
        if not _holds(own, value):
            found[own] = value
    return found


def _holds(place: epath.Path, value: Any) -> bool:
    """Returns whether the file `place` exists and holds the JSON `value`."""
    try:
        return place.exists() and bool(json.loads(place.read_bytes()) == json.loads(json.dumps(value)))
    except ValueError:
        return False


def _is_free(place: epath.Path, value: Any, path: epath.Path, overwrite: bool) -> bool:
    """Returns whether the JSON `value`, which describes `path`, can be written to `place` without a loss.

    It can if `place` does not exist or holds the same JSON, or, with `overwrite`, if it describes `path` already.
    """
    if not place.exists() or _holds(place, value):
        return True
    try:
        found = json.loads(place.read_bytes())
    except ValueError:
        return False
    of_a_run = isinstance(found, dict) and {"config", "format_version"} <= found.keys()
    # The name of `place` says that it describes `path`; or `path` is `model.safetensors`, and then the libraries expect
    # that the `config.json` beside it describes it.
    is_own = place.stem == path.stem or place.name.startswith(f"{path.stem}.") or path.name == "model.safetensors"
    return overwrite and path.exists() and is_own and not of_a_run


def describe(description: Description) -> dict[str, Any]:
    """Returns the description of a model as a JSON object; `read.described` turns it back into a description."""
    arch, preprocessing, class_names = description
    assert preprocessing is not None
    return {
        "format_version": FORMAT_VERSION,
        "family": arch.family,
        "architecture": dataclasses.asdict(arch),
        "preprocessing": dataclasses.asdict(preprocessing),
        "class_names": list(class_names),
    }
