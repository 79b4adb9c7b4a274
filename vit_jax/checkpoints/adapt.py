"""Turns the parameters of one architecture into those of another: a new head, another image size or patch size."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoints import names
from vit_jax.checkpoints.formats.flax import POSITIONS
from vit_jax.checkpoints.groups import count_not_finite, refuse, say_not_finite
from vit_jax.errors import UserError
from vit_jax.models import interpolate, posemb
from vit_jax.models.architecture import Architecture, VitArchitecture
from vit_jax.models.build import abstract_params
from vit_jax.models.functional import Params, flatten, unflatten

_HEAD = ("head/", "vit_jax/head_dist/")


def resulting(source: Architecture, changes: Mapping[str, Any], *, new_head: bool) -> Architecture:
    """Returns the architecture of a model that is made from the parameters of another one.

    Args:
        source: the architecture of the parameters.
        changes: the fields that shall differ; None keeps a field.
        new_head: whether the head is replaced. The fields that belong to the old head, `pre_logits` and `distilled`,
            are then switched off, unless `changes` has them.
    """
    old_head = {"pre_logits": 0, "distilled": False} if new_head else {}
    return source.replace(**{**{key: off for key, off in old_head.items() if key in source.fields()}, **changes})


def adapt(
    parameters: Mapping[str, np.ndarray], source: Architecture, target: Architecture, *, new_head: bool, name: str
) -> Params:
    """Returns the parameters of `target`, made from those of `source`, as float32 arrays on the host.

    Position embeddings are resampled to the grid of the target. The kernel of the patch embedding is resized if the
    patch size differs, by the pseudo-inverse resize of FlexiViT (2212.08013). A warning is logged if values are not
    finite.

    Args:
        parameters: the parameters of `source` by published name. Each is read once, so that a file is never in memory
            as a whole.
        source: the architecture of `parameters`.
        target: the architecture to make parameters for.
        new_head: whether to replace the head. The new head has a kernel of zeros and the bias `target.head_bias`. The
            layer `pre_logits` is dropped if the target has none. Without `new_head` every parameter must be found.
        name: what errors and warnings call the parameters, such as their file.

    Raises:
        UserError: parameters are missing, left over or of the wrong shape; the message lists them. Or the patch size of
            a hybrid differs, which can't be resized.
    """
    wanted = abstract_params(target)
    places = names.places(wanted)
    flat = {path: np.empty(leaf.shape, np.float32) for path, leaf in flatten(wanted).items()}
    problems: list[str] = []
    not_finite: dict[str, int] = {}
    dropped = (*_HEAD, "pre_logits/") if not getattr(target, "pre_logits", 0) else _HEAD
    found = [n for n in parameters if not (new_head and n.startswith(dropped))]
    for layer in found:
        if layer not in places:
            problems.append(f"{layer} is left over")
            continue
        path, index = places.pop(layer)
        slot = flat[path] if index is None else flat[path][index]
        array = parameters[layer]
        if count := count_not_finite(array):
            not_finite[layer] = count
        array = _resized(layer, array, source, target)
        if array.shape != slot.shape:
            problems.append(f"{layer} has shape {array.shape} where {slot.shape} is needed")
        else:
            slot[...] = array
    for layer, (path, _) in places.items():
        if new_head and layer.startswith(_HEAD):
            flat[path][...] = target.head_bias if layer.endswith("/bias") else 0
        else:
            problems.append(f"{layer} is missing")
    refuse(name, problems)
    say_not_finite(name, not_finite)
    return unflatten(flat)


def _resized(name: str, array: np.ndarray, source: Architecture, target: Architecture) -> np.ndarray:
    """Returns a parameter at the target's image size and patch size: resampled positions, resized patches."""
    if not (isinstance(source, VitArchitecture) and isinstance(target, VitArchitecture)):
        return array
    if name == "embedding/kernel" and source.patch_size != target.patch_size:
        if source.stages is not None:
            raise UserError("the patches of a hybrid, on the ResNet's output, can't be resized; leave patch_size out")
        return interpolate.resize_patches(array, target.patch_size)
    if source.grid == target.grid or source.posemb != target.posemb:
        return array
    old, new, how = source.grid, target.grid, target.posemb_resample
    if name == POSITIONS or name.endswith("/positions/table"):
        return np.asarray(posemb.resample(array, old, new, how))
    if name.endswith("positions/rows"):
        return np.asarray(posemb.resample(array, (old[0], 1), (new[0], 1), how))
    if name.endswith("positions/columns"):
        return np.asarray(posemb.resample(array, (old[1], 1), (new[1], 1), how))
    if name.endswith("relative/offsets"):
        shape, spans = array.shape, (posemb.offsets(old), posemb.offsets(new))
        return np.asarray(posemb.resample(array.reshape(1, shape[1], -1), *spans, how)).reshape(1, -1, *shape[2:])
    return array
