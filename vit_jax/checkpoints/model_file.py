"""A model and its file: `load`, `save` and `convert`, and what a run leaves for others (`model.npz`, `model.json`)."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from vit_jax.checkpoints import containers, files
from vit_jax.checkpoints.adapt import adapt, without_head
from vit_jax.checkpoints.formats import FORMATS, Description, Format
from vit_jax.checkpoints.groups import file_shapes, to_file
from vit_jax.checkpoints.read import FORMAT_VERSION, KEY, read
from vit_jax.errors import UserError
from vit_jax.models import names
from vit_jax.models.architecture import Preprocessing
from vit_jax.models.build import abstract
from vit_jax.models.functional import Params, split
from vit_jax.models.model import Model

_LOG = logging.getLogger(__name__)


def load(path: epath.PathLike, **keywords: Any) -> Model:
    """The model in a file or a run's folder, with its weights.

    Args:
        path: a run's folder (its `model.npz`, else its newest whole checkpoint), a file in any of the formats, a folder
            with a `model.safetensors`; local, `gs://` or `https://`; `file.npz:img` takes a subtree; or `augreg:B/16`,
            the recommended public AugReg checkpoint of a variant.
        keywords: fields of the `Architecture` to change. `image_size` resamples the position embeddings, `patch_size`
            resizes the patch embedding; a `num_classes` other than the file's gives a new head of zeros, and leaves a
            `pre_logits` layer behind.

    Raises:
        UserError: no such file, no checkpoint, or parameters that are missing, left over or of the wrong shape.
    """
    file = read(path, **keywords)
    source = file.architecture
    new_head = keywords.get("num_classes") not in (None, source.num_classes)
    if new_head:
        keywords = {**without_head(source), **keywords}
    target = source.replace(**keywords)
    params = adapt(file.parameters, source, target, new_head=new_head, name=file.name)
    preprocessing = file.preprocessing or Preprocessing(target.image_size)
    if keywords.get("image_size") is not None:
        preprocessing = at_size(preprocessing, target.image_size)
    if not new_head and target.num_classes and not any(np.any(array) for array in params["head"].values()):
        _LOG.warning("%s has a head of zeros: its features are of use, its %d classes not", path, target.num_classes)
    model = abstract(target, preprocessing, () if new_head else file.class_names)
    return split(model)[0](_to_device(params))


def _to_device(params: Params) -> Params:
    """As JAX arrays, the host's given up one by one, so each copy is waited for; `jnp.asarray` would make two."""
    for key in list(params):
        value = params.pop(key)
        params[key] = _to_device(value) if isinstance(value, dict) else jax.device_put(value).block_until_ready()
    return params


def at_size(preprocessing: Preprocessing, size: tuple[int, int]) -> Preprocessing:
    """The same for another size; of a centre crop the share of the image that it keeps stays."""
    side = preprocessing.shorter_side
    if side is not None and size != preprocessing.size:
        side = round(side * min(size) / min(preprocessing.size))
    return dataclasses.replace(preprocessing, size=size, shorter_side=side)


def save(model: Model, path: epath.PathLike, format: str | None = None) -> None:
    """Writes a model to a file that others can read, with what rebuilds it.

    Args:
        model: the model.
        path: the file; its suffix says the container.
        format: `original` (for `.npz`, the default), `big_vision`, `big_vision_scan`, `bit`, or `timm` (for
            `.safetensors`, the default), `transformers`.

    Raises:
        UserError: another suffix, or a format that has no place for a part of the model.
    """
    description = Description(model.arch, model.preprocessing, model.class_names)
    write(path, names.Published(split(model)[1]), description, format)


def write(
    path: epath.PathLike,
    parameters: Mapping[str, np.ndarray],
    description: Description,
    format: str | None = None,
) -> None:
    """`save`, of parameters under published names.

    The arrays take their place when they are all written, and what describes them the moment before, so that they never
    lack it and a failure changes nothing.
    """
    path = epath.Path(path)
    target = _format_of(path, format)
    order = {name: i for i, name in enumerate(parameters)}  # in which a file gives each of its arrays once
    groups = sorted(target.groups(description.architecture), key=lambda g: order[g.names[0]] if g.names else -1)
    sidecars = target.sidecars(description)
    written = describe(description)
    with files.replacing(path) as temporary:
        metadata = {KEY: json.dumps(written)}
        containers.write_file(
            temporary, path.suffix, file_shapes(groups), to_file(groups, parameters, str(path)), metadata
        )
        if path.suffix == ".npz":
            files.write_json(path.with_suffix(".json"), written)
        for name, sidecar in sidecars.items():
            _write_sidecar(path.parent / name, sidecar, path)


def convert(source: epath.PathLike, target: epath.PathLike, format: str | None = None, **keywords: Any) -> None:
    """One file to another, array by array.

    Raises:
        UserError: what is wrong with the source, or a format that has no place for a part of the model.
    """
    file = read(source, **keywords)
    preprocessing = file.preprocessing or Preprocessing(file.architecture.image_size)
    write(target, file.parameters, Description(file.architecture, preprocessing, file.class_names), format)


def _format_of(path: epath.Path, name: str | None) -> Format:
    """The format of a file to be written. Raises UserError for an unknown one, or one of another suffix."""
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


def _write_sidecar(path: epath.Path, value: Any, beside: epath.Path) -> None:
    """Writes JSON for another library, unless that would take the place of what describes another model."""
    found = files.read_json(path) if path.exists() else value
    of_a_run = isinstance(found, dict) and {"config", "format_version"} <= found.keys()
    if found != value and (of_a_run or beside.name != "model.safetensors"):
        _LOG.warning(
            "%s is another model's or a run's and stays; save to a folder of its own for the library that reads it",
            path,
        )
    else:
        files.write_json(path, value)


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
