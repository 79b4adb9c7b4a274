"""The `.npz` of the original and of big_vision: Vision Transformers, hybrids, Mixers, BiT.

`original` is this package's own: published names are its names, and what the original lacks is under `vit_jax/…`.
big_vision numbers submodules by class, adds positions before the class token joins, and can stack all blocks in one.
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
# What newer files, which count submodules by class, call otherwise; published name and big_vision's.
_NUMBERED = (
    ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
    ("LayerNorm_2", "LayerNorm_1"),
    ("MlpBlock_3", "MlpBlock_0"),
)


class Flax:
    """One of `original`, `big_vision` and `big_vision_scan`, which differ in writing; all are read."""

    suffix = ".npz"

    def __init__(self, name: str):
        self.name = name

    def rename(self, names: Iterable[str]) -> dict[str, str] | None:
        """Takes the subtree `params/` where there is one, then an image tower's `img/`, and the old numbering."""
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
        """A parameter of all layers in one array."""
        file = name.replace("encoderblock_0/", "encoderblock/")
        names = tuple(name.replace("encoderblock_0/", f"encoderblock_{i}/") for i in range(depth))
        return Group(
            {file if reading else self._new(file): (depth, *shape)}, names, tuple, lambda *layers: (np.stack(layers),)
        )

    def sidecars(self, description: Description) -> dict[str, Any]:
        """None."""
        return {}


def _positions(arch: VitArchitecture, shape: Shape) -> Group:
    """A table that is added before the class token joins, which therefore carries its own."""
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
