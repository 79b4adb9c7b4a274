"""The original's `.npz` naming: which architecture a file holds, and its arrays as this package's parameters."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from vit_jax.errors import UserError
from vit_jax.models import names, posemb
from vit_jax.models.architecture import Architecture
from vit_jax.models.functional import Params, split
from vit_jax.models.vit import VisionTransformer

Arrays = Mapping[str, np.ndarray]
POSITIONS = names.published("pos_embedding")
_HEAD = ("head/", "pre_logits/")


def canonical(arrays: Arrays) -> dict[str, np.ndarray]:
    """Arrays under this package's published names.

    Takes the subtree `params/` where there is one, and newer files' numbering (submodules counted per class).
    """
    if any(name.startswith("params/") for name in arrays):
        arrays = {name[len("params/") :]: a for name, a in arrays.items() if name.startswith("params/")}

    def rename(name: str) -> str:
        if re.search(r"encoderblock_\d+/MlpBlock_0/|encoderblock_\d+/MultiHeadDotProductAttention_0/", name):
            name = name.replace("/MlpBlock_0/", "/MlpBlock_3/")
            name = name.replace("/MultiHeadDotProductAttention_0/", "/MultiHeadDotProductAttention_1/")
        return re.sub(r"(encoderblock_\d+)/LayerNorm_1/", r"\1/LayerNorm_2/", name)

    return {rename(name): array for name, array in arrays.items()}


def architecture(arrays: Arrays, source: str, **keywords: Any) -> Architecture:
    """The architecture that arrays under canonical names belong to.

    Args:
        arrays: under canonical names.
        source: the file's name, for errors.
        keywords: what the file can't tell (`posemb` of a file without a table, `image_size` of one whose grid is not
            square), or what concerns the computation alone, such as `dropout` or `dtype`.

    Raises:
        UserError: the arrays are no Vision Transformer's, or a keyword is needed.
    """
    kernel, query = arrays.get("embedding/kernel"), arrays.get(_attention("query/kernel"))
    dense = arrays.get("Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel")
    if kernel is None or kernel.ndim != 4 or query is None or query.ndim != 3 or dense is None:
        some = ", ".join(sorted(arrays)[:3])
        raise UserError(f"{source} is no Vision Transformer in the original's naming; it has {some or 'no arrays'} …")
    layers = {int(m[1]) for name in arrays if (m := re.match(r"Transformer/encoderblock_(\d+)/", name))}
    head, pre_logits, table = (arrays.get(n) for n in ("head/bias", "pre_logits/bias", POSITIONS))
    found: dict[str, Any] = {
        "patch_size": kernel.shape[:2],
        "width": kernel.shape[3],
        "depth": max(layers) + 1,
        "mlp_dim": dense.shape[1],
        "num_heads": query.shape[1],
        "num_classes": 0 if head is None else len(head),
        "pre_logits": 0 if pre_logits is None else len(pre_logits),
        "pool": "tok" if "cls" in arrays else "map" if "MAPHead_0/probe" in arrays else "gap",
        "parallel": "Transformer/encoderblock_0/LayerNorm_2/scale" not in arrays,
        "qk_norm": _attention("query_ln/scale") in arrays,
        "qkv_bias": _attention("query/bias") in arrays,
    }
    if table is not None:
        found["posemb"] = "learned"
        found["image_size"] = _image_size(table, found, keywords.get("image_size"))
    elif keywords.get("posemb") is None:
        raise UserError(f"{source} has no position embeddings; say which it uses with posemb=sincos2d or posemb=none")
    found.update({key: value for key, value in keywords.items() if value is not None and key not in found})
    if "image_size" not in found:
        found["image_size"] = tuple(round(224 / p) * p for p in found["patch_size"])
    return Architecture.of(**found)


def _attention(name: str) -> str:
    return f"Transformer/encoderblock_0/MultiHeadDotProductAttention_1/{name}"


def _image_size(table: np.ndarray, found: Mapping[str, Any], image_size: Any) -> tuple[int, int]:
    """The size whose grid the table holds: that of the keyword where it has as many tokens, else a square one."""
    (ph, pw), tokens = found["patch_size"], table.shape[1] - (found["pool"] == "tok")
    if image_size is not None:
        height, width_px = (image_size, image_size) if isinstance(image_size, int) else image_size
        if (height // ph) * (width_px // pw) == tokens:
            return height, width_px
    rows, columns = posemb.square_grid(tokens)
    return rows * ph, columns * pw


def adapt(arrays: Arrays, source: Architecture, target: Architecture, *, new_head: bool, name: str) -> Params:
    """Parameters of `target`, as host arrays, from those of `source` under canonical names.

    Position embeddings are resampled to the target's grid. With `new_head` the head is a zero one with the target's
    bias, and a `pre_logits` layer that the target lacks is left behind; all else is loaded.

    Raises:
        UserError: a parameter is missing, left over or of the wrong shape; all are listed.
    """
    arrays = dict(arrays)
    if new_head:
        dropped = _HEAD if not target.pre_logits else _HEAD[:1]
        arrays = {n: a for n, a in arrays.items() if not n.startswith(dropped)}
        if target.num_classes:
            features = target.pre_logits or target.width
            arrays["head/kernel"] = np.zeros((features, target.num_classes), np.float32)
            arrays["head/bias"] = np.full(target.num_classes, target.head_bias, np.float32)
    if source.posemb == target.posemb == "learned" and POSITIONS in arrays:
        arrays[POSITIONS] = np.asarray(posemb.resample(arrays[POSITIONS], source.grid, target.grid))

    problems, flat, used = [], {}, set()
    for path, wanted in names.flatten(abstract_params(target)).items():
        layers = names.layer_names(path, target.depth)
        shape = wanted.shape[1:] if names.is_stacked(path) else wanted.shape
        for layer in layers:
            if layer not in arrays:
                problems.append(f"{layer} is missing")
            elif arrays[layer].shape != shape:
                problems.append(f"{layer} has shape {arrays[layer].shape} where {shape} is needed")
        used.update(layers)
        if not problems:
            parts = [np.asarray(arrays[layer], np.float32) for layer in layers]
            flat[path] = np.stack(parts) if names.is_stacked(path) else parts[0]
    problems += [f"{name} is left over" for name in arrays if name not in used]
    if problems:
        raise UserError(f"{name} does not fit the model: {'; '.join(problems)}")
    return names.unflatten(flat)


def abstract_params(arch: Architecture) -> Params:
    """The shapes of an architecture's parameters."""
    return split(nnx.eval_shape(lambda: VisionTransformer(arch, rngs=nnx.Rngs(jax.random.key(0)))))[1]
