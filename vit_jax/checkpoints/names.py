"""Translates the paths of parameters inside a model to their published names.

A model stacks equal modules into one, so it has one parameter for all layers at a *path* such as
`encoder/blocks/mlp/dense1/kernel`, with a leading axis `depth`. Users see one *published name* for each layer, such as
`Transformer/encoderblock_3/MlpBlock_3/Dense_0/kernel`, both in files and in the patterns of configs.

The published name of a parameter is the one of the original code (google-research/vision_transformer). A parameter that
the original lacks has big_vision's name. One that both lack has its path after `vit_jax/`, with `encoderblock_3`
instead of `encoder/blocks` for layer 3.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from vit_jax.models.functional import Params, flatten, is_stacked

_BLOCK = "Transformer/encoderblock_{layer}"
_PUBLISHED = tuple(
    (re.compile(pattern), name)
    for pattern, name in {  # the first pattern that matches the start of a path counts
        r"positions/table": "Transformer/posembed_input/pos_embedding",
        r"encoder/blocks/norm1/": f"{_BLOCK}/LayerNorm_0/",
        r"encoder/blocks/attention/query_norm/": f"{_BLOCK}/MultiHeadDotProductAttention_1/query_ln/",
        r"encoder/blocks/attention/key_norm/": f"{_BLOCK}/MultiHeadDotProductAttention_1/key_ln/",
        r"encoder/blocks/attention/": f"{_BLOCK}/MultiHeadDotProductAttention_1/",
        r"encoder/blocks/norm2/": f"{_BLOCK}/LayerNorm_2/",
        r"encoder/blocks/mlp/dense1/": f"{_BLOCK}/MlpBlock_3/Dense_0/",
        r"encoder/blocks/mlp/dense2/": f"{_BLOCK}/MlpBlock_3/Dense_1/",
        r"encoder/blocks/": "vit_jax/encoderblock_{layer}/",
        r"encoder/norm/": "Transformer/encoder_norm/",
        r"pool/probe": "MAPHead_0/probe",
        r"pool/attention/": "MAPHead_0/MultiHeadDotProductAttention_0/",
        r"pool/norm/": "MAPHead_0/LayerNorm_0/",
        r"pool/mlp/dense1/": "MAPHead_0/MlpBlock_0/Dense_0/",
        r"pool/mlp/dense2/": "MAPHead_0/MlpBlock_0/Dense_1/",
        r"cls$": "cls",
        r"embedding/": "embedding/",
        r"pre_logits/": "pre_logits/",
        r"head/": "head/",
        # The ResNet of a hybrid. `unit` starts at 2, because the first unit of a stage is not in the stack.
        r"stem/(conv_root|gn_root)/": r"\1/",
        r"stem/(block\d+)/unit1/": r"\1/unit1/",
        r"stem/(block\d+)/units/": r"\1/unit{unit}/",
        # Mixer.
        r"stem/": "stem/",
        r"mixer/blocks/norm1/": "MixerBlock_{layer}/LayerNorm_0/",
        r"mixer/blocks/norm2/": "MixerBlock_{layer}/LayerNorm_1/",
        r"mixer/blocks/(token|channel)_mixing/dense1/": r"MixerBlock_{layer}/\1_mixing/Dense_0/",
        r"mixer/blocks/(token|channel)_mixing/dense2/": r"MixerBlock_{layer}/\1_mixing/Dense_1/",
        r"mixer/norm/": "pre_head_layer_norm/",
        # BiT.
        r"resnet/conv_root/": "root_block/conv_root/",
        r"resnet/(block\d+)/unit1/": r"\1/unit01/",
        r"resnet/(block\d+)/units/": r"\1/unit{unit:02d}/",
        r"resnet/norm/": "norm-pre-head/",
    }.items()
)


def layer_names(path: str, depth: int) -> list[str]:
    """Returns the published names of the parameter at a path inside the model.

    There is one name, or `depth` names if the parameter is stacked: one for each layer or ResNet unit, in order.
    """
    name = _template(path)
    return [name.format(layer=i, unit=i + 2) for i in range(depth)] if is_stacked(path) else [name]


def _template(path: str) -> str:
    for pattern, name in _PUBLISHED:
        if found := pattern.match(path):
            return found.expand(name) + path[found.end() :]
    return "vit_jax/" + path.replace("/blocks/", "/block_{layer}/").replace("/units/", "/unit_{unit}/")


class Place(NamedTuple):
    """Where in a model's parameters the parameter with a published name is."""

    path: str
    layer: int | None  # the index along the leading axis of a stacked parameter; None for others


def places(params: Params) -> dict[str, Place]:
    """Returns where each parameter is, by its published name. A stacked parameter has one entry for each layer.

    The leaves of `params` may be arrays or `jax.ShapeDtypeStruct`s.
    """
    found: dict[str, Place] = {}
    for path, value in flatten(params).items():
        stacked = is_stacked(path)
        for layer, name in enumerate(layer_names(path, value.shape[0] if stacked else 1)):
            found[name] = Place(path, layer if stacked else None)
    return found


class Published(Mapping[str, np.ndarray]):
    """The parameters of a model as NumPy arrays by published name, one for each layer of a stack.

    A parameter is copied to the host's memory only when it is looked up.
    """

    def __init__(self, params: Params):
        self._flat, self._places = flatten(params), places(params)

    def __getitem__(self, name: str) -> np.ndarray:
        path, layer = self._places[name]
        array = np.asarray(self._flat[path])
        return array if layer is None else array[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
