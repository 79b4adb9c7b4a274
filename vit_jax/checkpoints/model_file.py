"""A model and its file: `load`, `save` and `convert`."""

import dataclasses
import logging
from typing import Any

import jax
import numpy as np
from etils import epath

from vit_jax.checkpoints.adapt import adapt, without_head
from vit_jax.checkpoints.formats import Description
from vit_jax.checkpoints.read import read
from vit_jax.checkpoints.write import describe, write
from vit_jax.models import names
from vit_jax.models.architecture import Preprocessing
from vit_jax.models.build import abstract
from vit_jax.models.functional import Params, split
from vit_jax.models.model import Model

__all__ = ["at_size", "convert", "describe", "load", "read", "save", "write"]

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


def save(model: Model, path: epath.PathLike, format: str | None = None, *, overwrite: bool = False) -> None:
    """Writes a model to a file that others can read, with what rebuilds it.

    Args:
        model: the model.
        path: the file; its suffix says the container.
        format: `original` (for `.npz`, the default), `big_vision`, `big_vision_scan`, `bit`, or `timm` (for
            `.safetensors`, the default), `transformers`.
        overwrite: whether a file that is there, and what describes it, is replaced. What describes another model or a
            run never is.

    Raises:
        UserError: another suffix, a format that has no place for a part of the model, or a place that is taken, is not
            there or can't be written.
    """
    description = Description(model.arch, model.preprocessing, model.class_names)
    write(path, names.Published(split(model)[1]), description, format, overwrite=overwrite)


def convert(
    source: epath.PathLike,
    target: epath.PathLike,
    format: str | None = None,
    *,
    overwrite: bool = False,
    **keywords: Any,
) -> None:
    """Writes one file as another, array by array; `format` and `overwrite` are as of `save`.

    Raises:
        UserError: what is wrong with the source, or as `save`.
    """
    file = read(source, **keywords)
    preprocessing = file.preprocessing or Preprocessing(file.architecture.image_size)
    description = Description(file.architecture, preprocessing, file.class_names)
    write(target, file.parameters, description, format, overwrite=overwrite, sources=file.files)
