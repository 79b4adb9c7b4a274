"""The formats of the original Vision Transformer code and of big_vision (`.npz`): ViT, hybrids, Mixer and BiT.

`original` can store every model of this package. Its arrays have the published names of parameters (see
`checkpoints.names`), and parameters that the original code lacks are under `vit_jax/…`.

The formats of big_vision differ in three ways. Their names number the modules in a block for each class. Position
embeddings are added before the class token is prepended, so the table has no entry for it. And `big_vision_scan` stores
each parameter of all blocks as one array with a leading axis `depth`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoints.containers import Shape
from vit_jax.checkpoints.formats.base import NOTHING, About, Description, need_place, parameter_shapes, sized, stages
from vit_jax.checkpoints.groups import Group, reshaped, same
from vit_jax.errors import UserError
from vit_jax.models.architecture import (
    Architecture,
    MixerArchitecture,
    ResNetArchitecture,
    VitArchitecture,
    stem_stride,
)

POSITIONS = "Transformer/posembed_input/pos_embedding"
_BLOCK = r"(Transformer/encoderblock(?:_\d+)?)/"
_ATTENTION = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1"
# Modules of a block by their published name and by their name in newer files, which number the modules of each class
# from 0.
_NUMBERED = (
    ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
    ("LayerNorm_2", "LayerNorm_1"),
    ("MlpBlock_3", "MlpBlock_0"),
)


class Flax:
    """The format `original`, `big_vision` or `big_vision_scan`, as the argument `name` says.

    An instance for either format of big_vision reads files of both. They differ only in what they write.
    """

    suffix = ".npz"

    def __init__(self, name: str):
        self.name = name

    def rename(self, names: Iterable[str]) -> dict[str, str] | None:
        """See `base.Format.rename`.

        If any names start with `params/`, only these are used, without that prefix. The same then applies to `img/`,
        the image tower of a model with two towers. The standard names have the numbers of the original.
        """
        found = {name: name for name in names}
        for tree in ("params/", "img/"):
            if any(name.startswith(tree) for name in found):
                found = {n[len(tree) :]: file for n, file in found.items() if n.startswith(tree)}
        renamed = {self._old(name): file for name, file in found.items()}
        keys = ("embedding/kernel", "MixerBlock_0/LayerNorm_0/scale", "root_block/conv_root/kernel")
        is_big_vision = "pos_embedding" in renamed or any(n.startswith("Transformer/encoderblock/") for n in renamed)
        return renamed if any(k in renamed for k in keys) and is_big_vision == (self.name != "original") else None

    @staticmethod
    def _old(name: str) -> str:
        for old, new in _NUMBERED:
            name = re.sub(rf"{_BLOCK}{new}/", rf"\1/{old}/", name)
        return name

    @staticmethod
    def _new(name: str) -> str:
        for old, new in _NUMBERED:
            name = re.sub(rf"{_BLOCK}{old}/", rf"\1/{new}/", name)
        return name

    def describe(self, shapes: Mapping[str, Shape], about: About) -> Description:
        """See `base.Format.describe`."""
        if "MixerBlock_0/LayerNorm_0/scale" in shapes:
            return Description(_mixer(shapes, about))
        if "root_block/conv_root/kernel" in shapes:
            width = shapes["root_block/conv_root/kernel"][-1]
            found = {"stages": stages(shapes), "stem_width": width, "num_classes": _length(shapes, "head/bias")}
            return Description(ResNetArchitecture.of(**{**about.fields_of(ResNetArchitecture), **found}))
        return Description(_vit(shapes, about))

    def groups(self, arch: Architecture, shapes: Mapping[str, Shape] = NOTHING) -> list[Group]:
        """See `base.Format.groups`."""
        parameters = parameter_shapes(arch)
        if isinstance(arch, ResNetArchitecture):
            return [
                reshaped(name, (1, 1, 1, *shape), name, shape)
                if re.search(r"(gn\d|norm-pre-head)/", name)
                else same(name, name, shape)
                for name, shape in parameters.items()
            ]
        if isinstance(arch, MixerArchitecture) or self.name == "original":
            return [same(name, name, shape) for name, shape in parameters.items()]
        assert isinstance(arch, VitArchitecture)
        if not shapes:
            need_place(
                self.name, arch, stages=[None], registers=[0], attention=["full"], parallel=[False], qkv_bias=[True],
                key_bias=[True], qk_norm=[False], layer_scale=[0.0], norm_after_pool=[False], rope=[0.0],
                mlp=["gelu", "gelu_erf"], posemb=["learned", "sincos2d", "none"], posemb_at=["stem"],
                pool=["tok", "gap", "map"], class_token=[arch.pool == "tok"],
            )  # fmt: skip
        scanned = any(n.startswith("Transformer/encoderblock/") for n in shapes) or (
            not shapes and self.name == "big_vision_scan"
        )
        groups = []
        for name, shape in parameters.items():
            if name == POSITIONS:
                groups.append(_positions(arch, shape))
            elif name == "cls" and POSITIONS in parameters:
                continue
            elif scanned and (layer := re.match(r"Transformer/encoderblock_(\d+)/", name)):
                if layer[1] == "0":
                    groups.append(self._stack(name, shape, arch.depth, bool(shapes)))
            else:
                groups.append(same(name if shapes else self._new(name), name, shape))
        return groups

    def _stack(self, name: str, shape: Shape, depth: int, reading: bool) -> Group:
        """Returns the group for an array of the file that stacks one parameter of all layers along a leading axis.

        Args:
            name: the published name of the parameter in layer 0.
            shape: the shape of the parameter in one layer.
            depth: the number of layers.
            reading: True if the file is read: the group then uses the standard name, with the module numbers of the
                original code (`MlpBlock_3`). False if the file is written: the name has big_vision's (`MlpBlock_0`).
        """
        file = name.replace("encoderblock_0/", "encoderblock/")
        names = tuple(name.replace("encoderblock_0/", f"encoderblock_{i}/") for i in range(depth))
        return Group(
            {file if reading else self._new(file): (depth, *shape)}, names, tuple, lambda *layers: (np.stack(layers),)
        )

    def sidecars(self, description: Description) -> dict[str, Any]:
        """Returns {}: the format needs no other files."""
        return {}


def _positions(arch: VitArchitecture, shape: Shape) -> Group:
    """Returns the group of big_vision's table of position embeddings, and of the class token if there is one.

    big_vision adds the table before it prepends the class token, so the table has no entry for the token. When a file
    is read, the token gets an entry of zeros. When one is written, the entry is added to the token.

    Args:
        arch: the architecture.
        shape: the shape of this package's table, (1, tokens, width).
    """
    if not arch.class_token:
        return same("pos_embedding", POSITIONS, shape)
    patches = (1, shape[1] - 1, shape[2])
    return Group(
        {"pos_embedding": patches, "cls": (1, 1, arch.width)},
        (POSITIONS, "cls"),
        lambda table, cls: (np.concatenate([np.zeros_like(cls), table], axis=1), cls),
        lambda table, cls: (table[:, 1:], cls + table[:, :1]),
    )


def _length(shapes: Mapping[str, Shape], name: str) -> int:
    return shapes[name][-1] if name in shapes else 0


def _vit(shapes: Mapping[str, Shape], about: About) -> VitArchitecture:
    scanned = any(name.startswith("Transformer/encoderblock/") for name in shapes)
    if scanned:
        depth = shapes["Transformer/encoderblock/LayerNorm_0/scale"][0]
        blocks = {n.replace("encoderblock/", "encoderblock_0/"): s[1:] for n, s in shapes.items() if "rblock/" in n}
        shapes = {**blocks, **shapes}
    else:
        layers = [int(m[1]) for name in shapes if (m := re.match(r"Transformer/encoderblock_(\d+)/", name))]
        depth = max(layers, default=-1) + 1
    query, mlp = shapes.get(f"{_ATTENTION}/query/kernel"), "Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"
    if not depth or query is None or len(query) != 3 or mlp not in shapes or len(shapes["embedding/kernel"]) != 4:
        some = ", ".join(sorted(shapes)[:3])
        raise UserError(f"{about.name} is no Vision Transformer in the original's naming; it has {some} …")
    patch = shapes["embedding/kernel"][:2]
    found: dict[str, Any] = {
        "patch_size": patch,
        "width": shapes["embedding/kernel"][3],
        "depth": depth,
        "mlp_dim": shapes[mlp][1],
        "num_heads": query[1],
        "num_classes": _length(shapes, "head/bias"),
        "pre_logits": _length(shapes, "pre_logits/bias"),
        "class_token": "cls" in shapes,
        "pool": "tok" if "cls" in shapes else "map" if "MAPHead_0/probe" in shapes else "gap",
        "parallel": "Transformer/encoderblock_0/LayerNorm_2/scale" not in shapes,
        "qk_norm": f"{_ATTENTION}/query_ln/scale" in shapes,
        "qkv_bias": f"{_ATTENTION}/query/bias" in shapes,
        "key_bias": f"{_ATTENTION}/key/bias" in shapes,
    }
    stride = (patch[0], patch[1])
    if "conv_root/kernel" in shapes:
        found |= {"stages": stages(shapes), "stem_width": shapes["conv_root/kernel"][3]}
        stem = stem_stride(found["stages"])
        stride = (patch[0] * stem, patch[1] * stem)
    table = shapes.get(POSITIONS)
    tokens = table[1] - found["class_token"] if table else shapes.get("pos_embedding", (0, 0))[1]
    if tokens:
        found |= {"posemb": "learned", "image_size": sized(tokens, stride, about)}
    elif "posemb" not in about.keywords:
        raise UserError(
            f"{about.name} has no position embeddings; say which it uses with posemb=sincos2d or posemb=none"
        )
    found = {**about.fields_of(VitArchitecture), **found}
    if "image_size" not in found:
        found["image_size"] = tuple(max(1, round(224 / s)) * s for s in stride)
    return VitArchitecture.of(**found)


def _mixer(shapes: Mapping[str, Shape], about: About) -> MixerArchitecture:
    patch, block = shapes["stem/kernel"][:2], "MixerBlock_0"
    tokens, tokens_mlp_dim = shapes[f"{block}/token_mixing/Dense_0/kernel"]
    found = {
        "patch_size": patch,
        "width": shapes["stem/kernel"][3],
        "depth": max(int(m[1]) for name in shapes if (m := re.match(r"MixerBlock_(\d+)/", name))) + 1,
        "tokens_mlp_dim": tokens_mlp_dim,
        "mlp_dim": shapes[f"{block}/channel_mixing/Dense_0/kernel"][1],
        "num_classes": _length(shapes, "head/bias"),
        "image_size": sized(tokens, (patch[0], patch[1]), about),
    }
    return MixerArchitecture.of(**{**about.fields_of(MixerArchitecture), **found})
