"""The published models by name, from one table of sizes for Transformers, one for Mixers and one for ResNets.

A name has one of these forms:

B/16        a Vision Transformer, SIZE/PATCH
R50+B/16    a hybrid, a ResNet before the Transformer; PATCH is the number of pixels from one token to the next
DINOv3-B/16 a Vision Transformer in the form of DINOv3, DINOv3-SIZE/PATCH
Mixer-B/16  an MLP-Mixer, Mixer-SIZE/PATCH
BiT-R50x1   a ResNet of Big Transfer, BiT-R<layers>x<width factor>
"""

import difflib
import fnmatch
import re
from typing import Any, NamedTuple

from vit_jax.errors import UserError
from vit_jax.models.architecture import (
    Architecture,
    MixerArchitecture,
    ResNetArchitecture,
    VitArchitecture,
    stem_stride,
)


class Size(NamedTuple):
    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    parallel: bool = False
    qk_norm: bool = False
    qkv_bias: bool = True


SIZES = {
    "Ti": Size(192, 12, 768, 3),  # 2012.12877 (DeiT), 2106.10270 (AugReg)
    "S": Size(384, 12, 1536, 6),
    "B": Size(768, 12, 3072, 12),  # 2010.11929, Table 1
    "L": Size(1024, 24, 4096, 16),
    "H": Size(1280, 32, 5120, 16),
    "So400m": Size(1152, 27, 4304, 16),  # 2303.15343 (SigLIP)
    "g": Size(1408, 40, 6144, 16),  # 2106.04560, Table 2
    "G": Size(1664, 48, 8192, 16),
    "e": Size(1792, 56, 15360, 16),  # 2209.06794 (PaLI)
    "22B": Size(6144, 48, 24576, 48, parallel=True, qk_norm=True, qkv_bias=False),  # 2302.05442
}


DINOV3 = {  # 2508.10104; S+, H+ and 7B have gated MLPs
    "S": SIZES["S"],
    "S+": SIZES["S"],
    "B": SIZES["B"],
    "L": SIZES["L"],
    "H+": Size(1280, 32, 5120, 20),
    "7B": Size(4096, 40, 8192, 32, qkv_bias=False),
}
_OF_DINOV3 = {
    "registers": 4, "posemb": "none", "rope": 100.0, "rope_coordinates": "unit", "key_bias": False,
    "layer_scale": 1e-5, "norm_eps": 1e-5,
}  # fmt: skip


class MixerSize(NamedTuple):
    width: int
    depth: int
    tokens_mlp_dim: int
    mlp_dim: int


MIXERS = {  # 2105.01601, Table 1
    "S": MixerSize(512, 8, 256, 2048),
    "B": MixerSize(768, 12, 384, 3072),
    "L": MixerSize(1024, 24, 512, 4096),
}

RESNETS = {  # the number of units of each stage (1512.03385; R200: 1603.05027)
    "R50": (3, 4, 6, 3),
    "R101": (3, 4, 23, 3),
    "R152": (3, 8, 36, 3),
    "R200": (3, 24, 36, 3),
}

HYBRIDS = {  # the number of units of each stage of the ResNet before the patches (2010.11929, B.1; 2106.10270)
    "R+Ti/16": (),  # the published name; but tokens are 32 pixels apart, with patches of 8 after a stem of stride 4
    "R26+S/32": (2, 2, 2, 2),
    "R26+B/32": (2, 2, 2, 2),
    "R50+B/16": (3, 4, 9),
    "R50+B/32": (3, 4, 6, 3),
    "R50+L/16": (3, 4, 9),
    "R50+L/32": (3, 4, 6, 3),
}
BIT = ("R50x1", "R50x2", "R50x3", "R101x1", "R101x3", "R152x1", "R152x2", "R152x4", "R200x3")


def named(name: str, **keywords: Any) -> Architecture:
    """Returns the architecture of a variant, such as `B/16`.

    Args:
        name: the name of the variant.
        keywords: fields of the architecture that replace those of the variant. A value of None is ignored.

    Raises:
        UserError: the name or a keyword is unknown, or sizes do not fit together.
    """
    family, fields = _parse(name)
    return family.of(**{**fields, **{key: value for key, value in keywords.items() if value is not None}})


def family(name: str) -> type[Architecture]:
    """Returns the class of the architecture that a name has. Raises UserError if the name is unknown."""
    return _parse(name)[0]


def _parse(name: str) -> tuple[type[Architecture], dict[str, Any]]:
    if found := _found(name):
        return found
    if foreign := _of_others(name):
        raise UserError(f"unknown variant {name!r}; here it is called {foreign}")
    near = difflib.get_close_matches(name, names(), 1, 0.0)[0]
    raise UserError(
        f"unknown variant {name!r}; the nearest is {near}. Write SIZE/PATCH with SIZE one of {', '.join(SIZES)}; "
        f"{', '.join(HYBRIDS)}; DINOv3-SIZE/PATCH with {', '.join(DINOV3)}; Mixer-SIZE/PATCH with "
        f"{', '.join(MIXERS)}; or BiT- with {', '.join(BIT)}"
    )


def _found(name: str) -> tuple[type[Architecture], dict[str, Any]] | None:
    """Returns the architecture's class and the values of its fields for a name, or None if the name is unknown."""
    if name in HYBRIDS:
        size = re.fullmatch(r"R\d*\+(\w+)/(\d+)", name)
        assert size
        stages = HYBRIDS[name]
        patch = 8 if not stages else int(size[2]) // stem_stride(stages)
        return VitArchitecture, {**SIZES[size[1]]._asdict(), "patch_size": patch, "stages": stages}
    if (dinov3 := re.fullmatch(r"DINOv3-(\w+\+?)/(\d+)", name)) and dinov3[1] in DINOV3 and int(dinov3[2]) > 0:
        mlp = "swiglu" if dinov3[1] in ("S+", "H+", "7B") else "gelu_erf"
        fields = {**DINOV3[dinov3[1]]._asdict(), **_OF_DINOV3, "mlp": mlp, "patch_size": int(dinov3[2])}
        return VitArchitecture, fields
    if (mixer := re.fullmatch(r"Mixer-(\w+)/(\d+)", name)) and mixer[1] in MIXERS and int(mixer[2]) > 0:
        return MixerArchitecture, {**MIXERS[mixer[1]]._asdict(), "patch_size": int(mixer[2])}
    if (bit := re.fullmatch(r"BiT-(R\d+)x(\d+)", name)) and bit[1] in RESNETS and int(bit[2]) > 0:
        return ResNetArchitecture, {"stages": RESNETS[bit[1]], "stem_width": 64 * int(bit[2])}
    if (vit := re.fullmatch(r"(\w+)/(\d+)", name)) and vit[1] in SIZES and int(vit[2]) > 0:
        return VitArchitecture, {**SIZES[vit[1]]._asdict(), "patch_size": int(vit[2])}
    return None


_SHORT = {
    "tiny": "Ti", "small": "S", "base": "B", "large": "L", "huge": "H", "giant": "g", "gigantic": "G",
    "so400m": "So400m", "ti": "Ti", "s": "S", "b": "B", "l": "L", "h": "H", "7b": "7B",
}  # fmt: skip
_SIZE = f"(?P<size>{'|'.join(_SHORT)})"
_PATCH = r"_?(?:patch_?)?(?P<patch>\d+)(?!\d)"

# Patterns of the names that other libraries use, and the form of our name for each. A name is searched in lower case
# and with _ between its parts. The first pattern that is found counts.
_OTHERS = (
    (rf"(?:^|_)vit_{_SIZE}(?P<plus>_plus)?_patch(?P<patch>\d+)_dinov3", "DINOv3-{size}{plus}/{patch}"),
    (rf"(?:^|_)dinov3_vit{_SIZE}(?P<patch>\d+)(?P<plus>plus)?", "DINOv3-{size}{plus}/{patch}"),
    (rf"(?:^|_)vit_{_SIZE}_r(?P<layers>\d*)_s(?P<patch>\d+)(?:_p8)?(?![a-z0-9])", "R{layers}+{size}/{patch}"),
    (rf"(?:^|_)r(?P<layers>\d*)_(?:vit_)?{_SIZE}{_PATCH}", "R{layers}+{size}/{patch}"),
    (rf"(?:^|_)mixer_?{_SIZE}{_PATCH}", "Mixer-{size}/{patch}"),
    (r"(?:resnetv2_|bit_[sm]?_?r?)(?P<layers>\d+)x(?P<factor>\d+)", "BiT-R{layers}x{factor}"),
    (rf"(?:^|_)(?:vit|deit3?|siglip|dinov2|beit)_{_SIZE}{_PATCH}", "{size}/{patch}"),
    (rf"^{_SIZE}{_PATCH}", "{size}/{patch}"),
)


def _of_others(name: str) -> str | None:
    """Returns our name for the name of a model in another library or in a file, for use in an error message.

    Such names are `vit_base_patch16_224.augreg_in21k`, `google/vit-base-patch16-224`, `vit_b_16`, `ViT-B_16` and
    `vit_base_r50_s16_384`. If the name says an image size other than 224, the result ends with `, with image_size=…`.
    Returns None if no name here corresponds to it.
    """
    text = name.rpartition("/")[2] if re.search(r"/[a-z]", name) else name
    text = re.sub(r"[-_/. +]+", "_", text.lower())
    for pattern, form in _OTHERS:
        if found := re.search(pattern, text):
            parts = found.groupdict()
            words = {"size": _SHORT.get(parts.get("size", ""), ""), "plus": "+" if parts.get("plus") else ""}
            ours = form.format(**{**parts, **words})
            image_size = re.search(r"_(\d{3,4})(?![a-z\d])", text[found.end() :])
            with_size = f", with image_size={image_size[1]}" if image_size and image_size[1] != "224" else ""
            return ours + with_size if _found(ours) else None
    return None


def name_of(arch: Architecture) -> str | None:
    """Returns the name of the published model that has the same sizes as `arch`, or None if there is none.

    The sizes are width, depth, patch size and so on. Other fields may differ. If several names fit, the one that fixes
    the most fields is returned.
    """
    for name in sorted(names(), key=lambda name: -len(_parse(name)[1])):
        family, fields = _parse(name)
        sizes = {key: value for key, value in fields.items() if not isinstance(value, bool | float)}
        if patch := sizes.get("patch_size"):
            sizes["patch_size"] = patch, patch
        if isinstance(arch, family) and all(getattr(arch, key) == value for key, value in sizes.items()):
            if getattr(arch, "stages", None) == fields.get("stages"):
                return name
    return None


def list_models(pattern: str = "") -> list[str]:
    """Returns the names of the published models, which `vit_jax.create` takes.

    `create` also takes other patch sizes, such as `B/20`, and any other size by its keywords.

    Args:
        pattern: returns only the names that contain this text, such as `B/16`, or that match it as a whole if it has
            wildcards (`*`, `?` or `[`), such as `R50+*`.
    """
    wanted = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    return [name for name in names() if fnmatch.fnmatchcase(name, wanted)]


def names() -> list[str]:
    """Returns the names of all published models, in the order Transformers, hybrids, Mixers, BiT."""
    transformers = [f"{size}/{patch}" for size in SIZES for patch in (8, 14, 16, 32)]
    dinov3 = [f"DINOv3-{size}/16" for size in DINOV3]
    mixers = [f"Mixer-{size}/{patch}" for size in MIXERS for patch in (8, 16, 32)]
    return [*transformers, *HYBRIDS, *dinov3, *mixers, *(f"BiT-{name}" for name in BIT)]
