"""What a model is: its architecture and the preprocessing of its images, as plain values that a file can hold."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vit_jax.errors import UserError
from vit_jax.models import variants


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Everything that decides a model's parameters and its computation. Sizes in pixels are (height, width)."""

    patch_size: tuple[int, int]
    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    num_classes: int = 1000  # 0 for no head
    image_size: tuple[int, int] = (224, 224)
    pool: str = "tok"  # class token; gap, global average pooling; map, multi-head attention pooling
    posemb: str = "learned"  # learned, sincos2d, none
    posemb_std: float = 0.02
    patchify: str = "conv"  # conv, matmul: the same numbers
    pre_logits: int = 0  # width of a dense layer and tanh before the head; 0 for none
    parallel: bool = False  # attention and MLP side by side on one norm (2302.05442)
    qk_norm: bool = False  # a norm over head_dim on queries and keys
    qkv_bias: bool = True
    head_bias: float = 0.0
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0
    scan: bool = True
    remat: str = "none"  # none, dots, full
    dtype: str = "float32"

    @classmethod
    def named(cls, name: str, **keywords: Any) -> "Architecture":
        """The architecture of a variant such as `B/16`; a keyword that is not None replaces the variant's value.

        Raises:
            UserError: an unknown variant or keyword, or sizes that do not fit together.
        """
        size, patch_size = variants.parse(name)
        return cls.of(**{**size._asdict(), "patch_size": patch_size, **_given(keywords)})

    @classmethod
    def of(cls, **keywords: Any) -> "Architecture":
        """The architecture with these fields; image and patch sizes may be one number.

        Raises:
            UserError: an unknown keyword, or sizes that do not fit together.
        """
        return dataclasses.replace(_ANY, **_checked_keywords(keywords))._checked()

    def replace(self, **keywords: Any) -> "Architecture":
        """A copy with the keywords that are not None.

        Raises:
            UserError: an unknown keyword, or sizes that do not fit together.
        """
        return dataclasses.replace(self, **_checked_keywords(_given(keywords)))._checked()

    def _checked(self) -> "Architecture":
        for image, patch, side in zip(self.image_size, self.patch_size, ("height", "width"), strict=True):
            if patch <= 0 or image <= 0 or image % patch:
                raise UserError(
                    f"a patch of {patch} pixels does not divide the image's {side} of {image}; "
                    f"change image_size, to {max(1, round(image / max(patch, 1))) * patch} say, or patch_size"
                )
        if self.width % self.num_heads:
            raise UserError(f"width={self.width} can't be split over num_heads={self.num_heads} equal heads")
        if self.posemb == "sincos2d" and self.width % 4:
            raise UserError(f"posemb=sincos2d needs a width divisible by 4, and width is {self.width}")
        for key, choices in _CHOICES.items():
            if getattr(self, key) not in choices:
                raise UserError(f"{key} is {getattr(self, key)!r}; it can be {', '.join(choices)}")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along (height, width)."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]


_ANY = Architecture(patch_size=(1, 1), width=1, depth=1, mlp_dim=1, num_heads=1)
_CHOICES = {
    "pool": ("tok", "gap", "map"),
    "posemb": ("learned", "sincos2d", "none"),
    "patchify": ("conv", "matmul"),
    "remat": ("none", "dots", "full"),
    "dtype": ("float32", "bfloat16"),
}


def _given(keywords: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keywords.items() if value is not None}


def _checked_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    known = [field.name for field in dataclasses.fields(Architecture)]
    for key in keywords:
        if key not in known:
            raise UserError(f"a model has no keyword {key!r}; it has {', '.join(known)}")
    return {key: _pair(value) if key in ("image_size", "patch_size") else value for key, value in keywords.items()}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the model's input: resized to (height, width), then (x / 255 - mean) / std by channel."""

    size: tuple[int, int]
    shorter_side: int | None = None  # resize it to so many pixels and crop the centre; else a plain resize
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # with std .5 the values lie in [-1, 1]
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def normalize(self, images: ArrayLike) -> Float[Array, "batch height width_px 3"]:
        """uint8 pixels as float32 in the model's range; floats are taken to be in it already."""
        images = jnp.asarray(images)
        if images.dtype == jnp.uint8:
            scale = [1 / (255 * s) for s in self.std]
            offset = [-m / s for m, s in zip(self.mean, self.std, strict=True)]
            return images.astype(jnp.float32) * jnp.array(scale) + jnp.array(offset)
        return images.astype(jnp.float32)
