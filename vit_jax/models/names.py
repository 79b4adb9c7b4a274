"""The published names of parameters: the original's where it has one, else big_vision's, else `vit_jax/…`.

Inside, all blocks are one stacked module (`encoder/blocks/mlp/dense1/kernel`, leading axis depth). What users see,
patterns in configs and files alike, are the names per layer (`Transformer/encoderblock_3/MlpBlock_3/Dense_0/kernel`).
"""

from typing import Any

import numpy as np

from vit_jax.models.functional import Params

_BLOCK = "Transformer/encoderblock_{layer}"
_PUBLISHED = {  # the first prefix that fits
    "pos_embedding": "Transformer/posembed_input/pos_embedding",
    "encoder/blocks/norm1/": f"{_BLOCK}/LayerNorm_0/",
    "encoder/blocks/attention/query_norm/": f"{_BLOCK}/MultiHeadDotProductAttention_1/query_ln/",
    "encoder/blocks/attention/key_norm/": f"{_BLOCK}/MultiHeadDotProductAttention_1/key_ln/",
    "encoder/blocks/attention/": f"{_BLOCK}/MultiHeadDotProductAttention_1/",
    "encoder/blocks/norm2/": f"{_BLOCK}/LayerNorm_2/",
    "encoder/blocks/mlp/dense1/": f"{_BLOCK}/MlpBlock_3/Dense_0/",
    "encoder/blocks/mlp/dense2/": f"{_BLOCK}/MlpBlock_3/Dense_1/",
    "encoder/norm/": "Transformer/encoder_norm/",
    "pool/probe": "MAPHead_0/probe",
    "pool/attention/": "MAPHead_0/MultiHeadDotProductAttention_0/",
    "pool/norm/": "MAPHead_0/LayerNorm_0/",
    "pool/mlp/dense1/": "MAPHead_0/MlpBlock_0/Dense_0/",
    "pool/mlp/dense2/": "MAPHead_0/MlpBlock_0/Dense_1/",
    "cls": "cls",
    "embedding/": "embedding/",
    "pre_logits/": "pre_logits/",
    "head/": "head/",
}
_STACKED = "encoder/blocks/"


def published(path: str) -> str:
    """The published name of the parameter at an inner path; a stacked one's has the field `{layer}`."""
    for prefix, name in _PUBLISHED.items():
        if path.startswith(prefix):
            return name + path[len(prefix) :]
    return f"vit_jax/{path}"


def is_stacked(path: str) -> bool:
    return path.startswith(_STACKED)


def layer_names(path: str, depth: int) -> list[str]:
    """The published names of the parameter at an inner path: one, or one for each layer where it is stacked."""
    name = published(path)
    return [name.format(layer=layer) for layer in range(depth)] if is_stacked(path) else [name]


def flatten(params: Params, prefix: str = "") -> dict[str, Any]:
    """`{"encoder/norm/scale": …}`: the leaves by their inner paths."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat.update(flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def unflatten(flat: dict[str, Any]) -> Params:
    params: Params = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return params


def to_published(params: Params) -> dict[str, np.ndarray]:
    """Host arrays under their published names, one per layer."""
    arrays: dict[str, np.ndarray] = {}
    for path, value in flatten(params).items():
        value = np.asarray(value)
        if is_stacked(path):
            arrays.update(zip(layer_names(path, len(value)), value, strict=True))
        else:
            arrays[published(path)] = value
    return arrays
