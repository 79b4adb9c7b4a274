"""A model's file and what describes it, written so that nothing else is lost.

A file that is there is replaced only if that is asked for, and what describes another model or a run never. All places
are looked at before anything is written, and a failure leaves everything as it was.
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
    """Writes parameters, under published names, and what describes them.

    Args:
        path: the file; its suffix says the container.
        parameters: by published name; each is asked for once.
        description: what they are.
        format: one of `FORMATS`; by default `original` for `.npz` and `timm` for `.safetensors`.
        overwrite: whether a file that is there, and what describes it, is replaced.
        sources: the files that `parameters` are read from.

    Raises:
        UserError: another suffix, a format that has no place for a part of the model, or a place that is taken, is not
            there or can't be written.
    """
    path = epath.Path(path)
    target = _format_of(path, format)
    files.check_place(path, overwrite, sources)
    order = {name: i for i, name in enumerate(parameters)}  # in which a file gives each of its arrays once
    groups = sorted(target.groups(description.architecture), key=lambda g: order[g.names[0]] if g.names else -1)
    written = describe(description)
    beside = {"": written} if path.suffix == ".npz" else {}
    sides = _side_files(path, beside | target.sidecars(description), overwrite)
    try:
        # What describes the arrays takes its place first, so that they are never there without it.
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
    """Returns the format of a file to be written. Raises UserError for an unknown one, or one of another suffix."""
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
    """Returns the JSON to be written beside `path`: its value by its place, without what is there already.

    Args:
        path: the model's file.
        values: by the name that a library looks for, or by "" for `NAME.json` beside `NAME.npz`.
        overwrite: whether what describes this very file is replaced.

    Raises:
        UserError: a place is taken that can't be another.
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
    """Whether that JSON is there already."""
    try:
        return place.exists() and bool(json.loads(place.read_bytes()) == json.loads(json.dumps(value)))
    except ValueError:
        return False


def _is_free(place: epath.Path, value: Any, path: epath.Path, overwrite: bool) -> bool:
    """Whether `value`, which describes `path`, can be written to `place` without a loss."""
    if not place.exists() or _holds(place, value):
        return True
    try:
        found = json.loads(place.read_bytes())
    except ValueError:
        return False
    of_a_run = isinstance(found, dict) and {"config", "format_version"} <= found.keys()
    # By its name it describes this file, or by the libraries' custom the only model of its folder.
    is_own = place.stem == path.stem or place.name.startswith(f"{path.stem}.") or path.name == "model.safetensors"
    return overwrite and path.exists() and is_own and not of_a_run


def describe(description: Description) -> dict[str, Any]:
    """What rebuilds a model, as JSON."""
    arch, preprocessing, class_names = description
    assert preprocessing is not None
    return {
        "format_version": FORMAT_VERSION,
        "family": arch.family,
        "architecture": dataclasses.asdict(arch),
        "preprocessing": dataclasses.asdict(preprocessing),
        "class_names": list(class_names),
    }
