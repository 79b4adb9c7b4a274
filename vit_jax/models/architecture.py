"""The architecture of a model and the preprocessing of its images, as plain values that can be stored in a file.

Each family of models has its own dataclass. A model has no options other than the fields of its family's dataclass.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vit_jax import config
from vit_jax.errors import UserError
from vit_jax.models import pixels
from vit_jax.values import as_hint, as_type, wording

A = TypeVar("A", bound="Architecture")

# The limits of the fields' values by field name, as the config's sections `model` and `preprocessing` define them.
_LIMITS = {name: key.limits for name, key in config.keys_of(config.Model).items()}
_OF_IMAGES = {name: key.limits for name, key in config.keys_of(config.Preprocessing).items()}
INTERPOLATIONS = _OF_IMAGES["interpolation"].choices
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # by channel, for pixels from 0 to 1


def _pair(key: str, value: Any) -> tuple[int, int]:
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    try:
        height, width_px = as_type(tuple[int, int], value)
    except TypeError:
        raise UserError(f"{key} is {value!r}; it takes a number of pixels, or (height, width)") from None
    return height, width_px


def _grid(image_size: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    """Returns the number of patches along (height, width). Raises UserError if they do not divide the image evenly."""
    for image, unit, side in zip(image_size, stride, ("height", "width"), strict=True):
        if unit <= 0 or image % unit:
            raise UserError(
                f"a patch of {unit} pixels does not divide the image's {side} of {image}; "
                f"change image_size, to {max(1, round(image / max(unit, 1))) * unit} say, or patch_size"
            )
    return image_size[0] // stride[0], image_size[1] // stride[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """The fields that all families have. Image and patch sizes are (height, width)."""

    family: ClassVar[str]
    num_classes: int = 1000  # 0 for no head
    image_size: tuple[int, int] = (224, 224)
    head_bias: float = 0.0  # the initial bias of a new head
    scan: bool = True  # run equal blocks by jax.lax.scan; False unrolls them
    remat: str = "none"  # none, dots, offload or full: what is stored for the backward pass (stack.REMAT)
    dtype: str = "float32"  # of the computation; parameters are always float32

    @classmethod
    def of(cls: type[A], **keywords: Any) -> A:
        """Returns the architecture with these fields and the defaults of all others.

        Args:
            keywords: values of fields. A value of None is ignored. A square image or patch size may be one number.

        Raises:
            UserError: a keyword is unknown, missing or has a wrong value, or sizes do not fit together.
        """
        keywords = cls._converted(keywords)
        missing = [
            f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING and f.name not in keywords
        ]
        if missing:
            raise UserError(f"a model of the family {cls.family} needs the keyword {missing[0]}")
        return cls(**keywords)._completed()

    def replace(self: A, **keywords: Any) -> A:
        """Returns a copy with the values of `keywords` in place of the old ones.

        A value of None is ignored. A value that `of` derived, such as `class_token` from `pool`, stays unless a keyword
        changes it.

        Args:
            keywords: values of fields, as in `of`; none is required.

        Raises:
            UserError: a keyword is unknown or has a wrong value, or the fields of the copy do not fit together.
        """
        return dataclasses.replace(self, **self._converted(keywords))._completed()

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Returns the names of all fields."""
        return tuple(field.name for field in dataclasses.fields(cls))

    @classmethod
    def _converted(cls, keywords: Mapping[str, Any]) -> dict[str, Any]:
        for key in keywords:
            if key not in cls.fields():
                known = ", ".join(cls.fields())
                raise UserError(f"a model of the family {cls.family} has no keyword {key!r}; it has {known}")
        keywords = {key: value for key, value in keywords.items() if value is not None}
        pairs: dict[str, Any] = {
            key: _pair(key, keywords[key]) for key in ("image_size", "patch_size") if key in keywords
        }
        hints, converted = typing.get_type_hints(cls), {}
        for key, value in {**keywords, **pairs}.items():
            try:
                converted[key] = as_hint(hints[key], value)
            except TypeError:
                raise UserError(
                    f"{key} is {value!r} ({type(value).__name__}); it takes {wording(hints[key])}"
                ) from None
        return converted

    def _completed(self) -> Any:
        """Returns a copy in which each field that is None, but follows from other fields, has its value.

        Raises:
            UserError: a value is outside of its limits, or a model can't be built from these fields.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and field.name in _LIMITS and (wrong := _LIMITS[field.name].wrong(value)):
                raise UserError(f"{field.name} is {value!r}; {wrong}")
        if sum(getattr(self, "stages", None) or ()) > 10_000:
            raise UserError("stages has more than 10,000 units; give the number of units of each stage")
        return self


@dataclasses.dataclass(frozen=True, kw_only=True)
class VitArchitecture(Architecture):
    """A Vision Transformer, or a hybrid, which has a ResNet before the patches (2010.11929, section 3.1)."""

    family: ClassVar[str] = "vit"
    patch_size: tuple[int, int]  # in pixels; in a hybrid, in positions of the ResNet's output
    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    stages: tuple[int, ...] | None = None  # number of units in each stage of a hybrid's ResNet; None for no ResNet
    stem_width: int = 64  # channels after that ResNet's first convolution
    pool: str = "tok"  # tok, class token; gap, average of the patches; map, attention pooling; tok+gap, concatenated
    class_token: bool | None = None  # None: only if the pooling reads it; True: always
    registers: int = 0  # number of special tokens after the class token (2309.16588)
    posemb: str = "learned"  # learned, a 1-D table; learned2d, a table per side; relative; sincos2d, fixed; none
    posemb_at: str | None = None  # stem; layers, one table each; shared by all layers; None: stem, layers if relative
    posemb_std: float = 0.02  # standard deviation of the initial position embeddings
    posemb_resample: str = "bilinear"
    rope: float = 0.0  # base of 2-D rotary positions, such as 100; 0 for none
    rope_coordinates: str = "grid"  # rows and columns, counted; unit, from -1 to 1 over any image (2508.10104)
    patchify: str = "conv"  # conv, matmul: the same numbers
    attention: str = "full"  # full; axial, within rows and then within columns, with an MLP after each
    parallel: bool = False  # attention and MLP side by side on one norm (2302.05442)
    qk_norm: bool = False  # a norm over head_dim on queries and keys
    qkv_bias: bool = True
    key_bias: bool = True  # with qkv_bias
    mlp: str = "gelu"  # gelu, by its tanh approximation; gelu_erf, exact; swiglu (2002.05202)
    layer_scale: float = 0.0  # initial scale of each branch (2103.17239); 0 for none
    norm_eps: float = 1e-6
    norm_after_pool: bool = False  # the final norm on the pooled features instead of the tokens
    pre_logits: int = 0  # width of a dense layer and tanh before the head; 0 for none
    distilled: bool = False  # a second head on the first register, averaged with the first (2012.12877)
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0

    def _completed(self) -> Any:
        super()._completed()
        _grid(self.image_size, self.stride)
        if self.width % self.num_heads:
            raise UserError(f"width={self.width} can't be split over num_heads={self.num_heads} equal heads")
        if self.posemb == "sincos2d" and (self.width % 4 or self.width < 8):
            raise UserError(f"posemb=sincos2d needs a width divisible by 4, and width is {self.width}")
        if self.posemb == "learned2d" and self.width % 2:
            raise UserError(f"posemb=learned2d needs an even width, and width is {self.width}")
        if self.rope and self.width // self.num_heads % 4:
            raise UserError(
                f"rope needs heads of a width divisible by 4; width={self.width}, num_heads={self.num_heads}"
            )
        if self.rope_coordinates != "grid" and not self.rope:
            raise UserError(f"rope_coordinates={self.rope_coordinates} needs rotary positions; set rope to 100, say")
        if self.distilled and not (self.registers and self.class_token is not False and self.pool == "tok"):
            raise UserError("distilled=True needs pool=tok and registers=1: the second head reads the first register")
        if self.pool.startswith("tok") and self.class_token is False:
            raise UserError(f"pool={self.pool} reads a class token; leave class_token out or take pool=gap")
        if self.norm_after_pool and self.pool not in ("tok", "gap"):
            raise UserError(f"norm_after_pool goes with pool=tok or gap, and pool is {self.pool}")
        if self.attention == "axial":
            for refused, wanted in (
                (self.pool.startswith("tok"), "pool=gap or map: a class token has no row"),
                (self.class_token, "class_token=False: a class token has no row"),
                (self.registers, "registers=0: they have no row"),
                (self.posemb == "relative", "another posemb than relative"),
            ):
                if refused:
                    raise UserError(f"attention=axial needs {wanted}")
        posemb_at = self.posemb_at or ("layers" if self.posemb == "relative" else "stem")
        return dataclasses.replace(
            self,
            class_token=bool(self.class_token) or self.pool.startswith("tok"),
            posemb_at=posemb_at,
            key_bias=self.key_bias or not self.qkv_bias,  # one way to say that there are no biases
        )

    @property
    def stride(self) -> tuple[int, int]:
        """The distance from one patch to the next along (height, width), in pixels."""
        stem = 1 if self.stages is None else stem_stride(self.stages)
        return self.patch_size[0] * stem, self.patch_size[1] * stem

    @property
    def grid(self) -> tuple[int, int]:
        """The number of patches along (height, width)."""
        return _grid(self.image_size, self.stride)

    @property
    def specials(self) -> int:
        """The number of special tokens, which come before the patches: the class token and the registers."""
        return int(bool(self.class_token)) + self.registers

    @property
    def head_tokens(self) -> int | None:
        """The number of tokens, counted from the first, that the last block must compute for the head; None for all.

        The class token is enough for the pooling `tok`, unless rotary or relative positions, axial attention or
        attention dropout are computed for all queries together.
        """
        together = self.rope or self.posemb == "relative" or self.attention == "axial" or self.attention_dropout
        return None if self.pool != "tok" or together else 1 + self.distilled


def stem_stride(stages: Sequence[int]) -> int:
    """Returns the distance in pixels from one output position of a ResNet to the next.

    It is 4 after the first convolution and the pooling. Each stage except the first doubles it.
    """
    return 4 * 2 ** max(len(stages) - 1, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetArchitecture(Architecture):
    """BiT (1912.11370): a ResNet-v2 with weight standardisation and group norm, the baseline in the paper on ViT."""

    family: ClassVar[str] = "bit"

    stages: tuple[int, ...]  # number of units in each stage
    stem_width: int = 64  # channels after the first convolution

    def _completed(self) -> Any:
        super()._completed()
        if not self.stages:
            raise UserError(
                f"stages is {self.stages}; a ResNet needs the number of units of each stage, as (3, 4, 6, 3)"
            )
        return self


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixerArchitecture(Architecture):
    """MLP-Mixer (2105.01601). Its weights depend on the number of patches, so its images must all have `image_size`."""

    family: ClassVar[str] = "mixer"
    patch_size: tuple[int, int]
    width: int
    depth: int
    tokens_mlp_dim: int
    mlp_dim: int
    patchify: str = "conv"
    dropout: float = 0.0
    drop_path: float = 0.0

    def _completed(self) -> Any:
        super()._completed()
        _grid(self.image_size, self.patch_size)
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """The number of patches along (height, width)."""
        return _grid(self.image_size, self.patch_size)


FAMILIES: dict[str, type[Architecture]] = {
    cls.family: cls for cls in (VitArchitecture, ResNetArchitecture, MixerArchitecture)
}


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the model's input.

    If `shorter_side` is None, the whole image is resized to `size`, whatever its aspect ratio. Otherwise there is a box
    with the aspect ratio of `size` and a shorter side of `shorter_side` pixels. The image is resized, with its own
    aspect ratio, until it just covers the box, and its centre of `size` is cropped.

    Then each channel is normalised as (x / 255 - mean) / std.

    Raises:
        UserError: the interpolation is unknown, `shorter_side` is smaller than the crop, or another value is wrong.
    """

    size: tuple[int, int]  # (height, width) in pixels
    shorter_side: int | None = None
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # together with std=0.5 this gives values in [-1, 1]
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    interpolation: str = "bilinear"
    keep_aspect: bool = True  # if False, the whole image is resized to the box, whatever its aspect ratio
    antialias: bool = True  # if False, each pixel is interpolated between its nearest neighbours only

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _pair("the preprocessing's size", self.size))
        if wrong := _LIMITS["image_size"].wrong(self.size):
            raise UserError(f"the preprocessing's size is {self.size}; {wrong}")
        for key in ("mean", "std"):
            object.__setattr__(self, key, _channels(key, getattr(self, key)))
        if wrong := _OF_IMAGES["interpolation"].wrong(self.interpolation):
            raise UserError(f"interpolation is {self.interpolation!r}; {wrong}")
        if not self.antialias and self.interpolation != "bilinear":
            raise UserError(f"antialias=False needs the interpolation bilinear, and it is {self.interpolation}")
        side = self.shorter_side
        if side is not None and (not isinstance(side, int) or side < min(self.size)):
            raise UserError(
                f"shorter_side={side!r} is smaller than the image of {self.size[0]}x{self.size[1]} pixels that is "
                f"cropped from it; set shorter_side to {min(self.size)} or more, or resize the whole image"
            )

    def normalize(self, images: ArrayLike) -> Float[Array, "batch height width_px 3"]:
        """Returns a batch of images as float32, with integers normalised. See `pixels.normalized`, also for errors.

        The images must already have their final size; nothing is resized.
        """
        return pixels.normalized(images, self.mean, self.std)

    def to_pixels(self, images: ArrayLike) -> Float[Array, "batch height width_px 3"]:
        """Returns what `normalize` takes as float32 pixels, 0 to 255. Raises UserError as that does."""
        return pixels.to_pixels(images, self.mean, self.std)

    def from_pixels(self, images: Float[Array, "batch height width_px 3"]) -> Float[Array, "batch height width_px 3"]:
        """Returns float32 pixels, 0 to 255, in the model's range."""
        return pixels.from_pixels(images, self.mean, self.std)


def _channels(key: str, values: Sequence[float]) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError):
        raise UserError(f"the preprocessing's {key} is {values!r}; it takes three numbers, one a channel") from None
    if wrong := _OF_IMAGES[key].wrong((red, green, blue)):
        raise UserError(f"the preprocessing's {key} is {values!r}; {wrong}")
    return red, green, blue
