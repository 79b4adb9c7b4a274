"""From the parameters of one architecture to those of another: a new head, another grid, other patches."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoints.formats.flax import POSITIONS
from vit_jax.checkpoints.groups import count_not_finite, refuse, say_not_finite
from vit_jax.errors import UserError
from vit_jax.models import interpolate, names, posemb
from vit_jax.models.architecture import Architecture, VitArchitecture
from vit_jax.models.build import abstract_params
from vit_jax.models.functional import Params

_HEAD = ("head/", "vit_jax/head_dist/")


def without_head(arch: Architecture) -> dict[str, Any]:
    """The fields of an architecture that a new head leaves behind with the old one, switched off."""
    return {key: off for key, off in (("pre_logits", 0), ("distilled", False)) if key in arch.fields()}


def adapt(
    parameters: Mapping[str, np.ndarray], source: Architecture, target: Architecture, *, new_head: bool, name: str
) -> Params:
    """Parameters of `target`, as host arrays, from those of `source` under published names, read one at a time.

    Positions are resampled to the target's grid, and patches of another size get the pseudo-inverse resize of their
    kernel. With `new_head` the head is a zero one with the target's bias, and a `pre_logits` layer that the target
    lacks is left behind; all else is loaded. A warning says where values are not finite.

    Raises:
        UserError: a parameter is missing, left over or of the wrong shape; they are listed.
    """
    wanted = abstract_params(target)
    places = names.places(wanted)
    flat = {path: np.empty(leaf.shape, np.float32) for path, leaf in names.flatten(wanted).items()}
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
    return names.unflatten(flat)


def _resized(name: str, array: np.ndarray, source: Architecture, target: Architecture) -> np.ndarray:
    """The parameter at the target's image and patch size."""
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
