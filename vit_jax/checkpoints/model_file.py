"""Loads, saves and converts the files of models."""

import dataclasses
import logging
from typing import Any

import jax
import numpy as np
from etils import epath

from vit_jax.checkpoints import names
from vit_jax.checkpoints.adapt import adapt, resulting
from vit_jax.checkpoints.formats import Description
from vit_jax.checkpoints.read import read
from vit_jax.checkpoints.write import describe, write
from vit_jax.models.architecture import Preprocessing
from vit_jax.models.build import abstract
from vit_jax.models.functional import Params, split
from vit_jax.models.model import Model

__all__ = ["at_size", "convert", "describe", "load", "read", "save", "write"]

_LOG = logging.getLogger(__name__)


def load(path: epath.PathLike, **keywords: Any) -> Model:
    """Returns the model in a file or a run's folder, with its weights.

    Args:
        path: one of
            - a run's folder: its `model.npz` is loaded, and if there is none, its newest complete checkpoint;
            - a file in any of the formats, or a folder with a `model.safetensors`; local, `gs://` or `https://`;
            - `FILE.npz:img`, the subtree `img` of a file;
            - `augreg:B/16`, the recommended public AugReg checkpoint (2106.10270) of a variant.
        keywords: fields of the `Architecture` that shall differ from the file's. `image_size` resamples the position
            embeddings, and `patch_size` resizes the patch embedding. If `num_classes` differs from the file's, the
            model has a new head of zeros, and a `pre_logits` layer is dropped. A keyword also supplies what the file
            can't tell, such as `num_heads`.

    Raises:
        UserError: there is no such file, it is no checkpoint, or its parameters are missing, left over or of the wrong
            shape.
    """
    file = read(path, **keywords)
    source = file.architecture
    new_head = keywords.get("num_classes") not in (None, source.num_classes)
    target = resulting(source, keywords, new_head=new_head)
    params = adapt(file.parameters, source, target, new_head=new_head, name=file.name)
    preprocessing = file.preprocessing or Preprocessing(target.image_size)
    if keywords.get("image_size") is not None:
        preprocessing = at_size(preprocessing, target.image_size)
    if not new_head and target.num_classes and not any(np.any(array) for array in params["head"].values()):
        _LOG.warning("%s has a head of zeros: its features are of use, its %d classes not", path, target.num_classes)
    model = abstract(target, preprocessing, () if new_head else file.class_names)
    return split(model)[0](_to_device(params))


def _to_device(params: Params) -> Params:
    """Returns the parameters as JAX arrays on the default device, and empties `params`.

    Each host array is freed before the next is copied, so that never more than one parameter is in memory twice.
    `jnp.asarray` would copy each array twice.
    """
    for key in list(params):
        value = params.pop(key)
        params[key] = _to_device(value) if isinstance(value, dict) else jax.device_put(value).block_until_ready()
    return params


def at_size(preprocessing: Preprocessing, size: tuple[int, int]) -> Preprocessing:
    """Returns the preprocessing for images of another size, (height, width) in pixels.

    If it is a centre crop, `shorter_side` is scaled with the size, so that the crop keeps the same share of the image.
    """
    side = preprocessing.shorter_side
    if side is not None and size != preprocessing.size:
        side = round(side * min(size) / min(preprocessing.size))
    return dataclasses.replace(preprocessing, size=size, shorter_side=side)


def save(model: Model, path: epath.PathLike, format: str | None = None, *, overwrite: bool = False) -> None:
    """Writes a model to a file in a published format, with a description from which `load` rebuilds the model.

    The description is in the metadata of a `.safetensors`, and in a `.json` beside a `.npz`. The JSON files that the
    format's own library needs are written beside the file, too.

    Args:
        model: the model.
        path: the file, which ends in `.npz` or `.safetensors`.
        format: for `.npz` `original` (the default), `big_vision`, `big_vision_scan` or `bit`; for `.safetensors` `timm`
            (the default) or `transformers`.
        overwrite: whether an existing file is replaced, with the JSON beside it. JSON that describes another model or a
            run is never replaced.

    Raises:
        UserError: the suffix does not belong to the format, the format can't hold a part of the model, the file exists
            already, or it can't be written.
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
    """Converts a model's file to another format, array by array, so that neither file is in memory as a whole.

    Args:
        source: what `load` takes.
        target: the file to write.
        format: as for `save`.
        overwrite: as for `save`.
        keywords: what the source can't tell, such as `num_heads`.

    Raises:
        UserError: the source can't be read, or as `save`.
    """
    file = read(source, **keywords)
    preprocessing = file.preprocessing or Preprocessing(file.architecture.image_size)
    description = Description(file.architecture, preprocessing, file.class_names)
    write(target, file.parameters, description, format, overwrite=overwrite, sources=file.files)
