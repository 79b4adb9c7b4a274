"""Checks the images that a model is given, and normalises their pixels."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vit_jax.errors import UserError

# Floats may exceed the normalised range by _TOLERANCE times its width, or by _LEAST_TOLERANCE if that is more. No
# normalised or augmented image exceeds it by that much, but most images with values from 0 to 255 do.
_TOLERANCE = 4.0
_LEAST_TOLERANCE = 8.0


def normalized(images: Any, mean: Sequence[float], std: Sequence[float]) -> Float[Array, "batch height width_px 3"]:
    """Returns images as float32, with integers normalised as (x / 255 - mean) / std for each channel.

    Floats are only converted to float32, because they must be normalised already. Shape and type are checked always,
    also while `jax.jit` traces. Values are checked if this process can read them (see `_at_hand`).

    Args:
        images: (batch, height, width, 3), an array or nested lists; integers of any type from 0 to 255, or floats.
        mean: the mean of each channel, for pixels from 0 to 1.
        std: the standard deviation of each channel, for pixels from 0 to 1.

    Raises:
        UserError: `images` is not a batch of RGB images, integers are not from 0 to 255, or floats are far outside of
            the normalised range.
    """
    images, integers = _checked(images, mean, std)
    return from_pixels(images, mean, std) if integers else images


def to_pixels(images: Any, mean: Sequence[float], std: Sequence[float]) -> Float[Array, "batch height width_px 3"]:
    """Returns what `normalized` takes as float32 pixels, 0 to 255. Raises UserError as that does."""
    images, integers = _checked(images, mean, std)
    return images if integers else (images * jnp.array(std, jnp.float32) + jnp.array(mean, jnp.float32)) * 255


def from_pixels(
    pixels: Float[Array, "batch height width_px 3"], mean: Sequence[float], std: Sequence[float]
) -> Float[Array, "batch height width_px 3"]:
    """Returns float32 pixels, 0 to 255, in the model's range."""
    scale = [1 / (255 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    return pixels * jnp.array(scale) + jnp.array(offset)


def _checked(images: Any, mean: Sequence[float], std: Sequence[float]) -> tuple[Array, bool]:
    """Returns the images as float32, and whether they are pixels. Raises UserError as `normalized`."""
    if not hasattr(images, "dtype"):
        images = np.asarray(images)
    _check_shape(images.shape)
    integers = jnp.issubdtype(images.dtype, jnp.integer)
    if not integers and not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(f"images are of type {images.dtype}; give uint8 pixels, or floats in the model's range")
    if images.dtype != jnp.uint8 and _at_hand(images):
        least, greatest = float(images.min()), float(images.max())
        if integers:
            _check_pixels(least, greatest)
        else:
            _check_range(least, greatest, mean, std)
    return jnp.asarray(images).astype(jnp.float32), bool(integers)


def _at_hand(images: Any) -> bool:
    """Returns whether this process can read the values of `images` now.

    It can't while `jax.jit` traces a function, or if some rows are on the devices of other processes.
    """
    if isinstance(images, jax.core.Tracer):
        return False
    return images.is_fully_addressable if isinstance(images, jax.Array) else True


def _check_shape(shape: tuple[Any, ...]) -> None:  # while a model is exported, the batch is a symbol
    if len(shape) == 4 and shape[-1] == 3 and 0 not in shape:
        return
    if len(shape) == 4 and shape[0] == 0:
        mend = "an empty batch has no result; leave it out"
    elif 0 in shape:
        mend = "they have no pixels; give at least one image of at least one pixel"
    elif len(shape) == 4 and shape[1] == 3:
        mend = "the channels come last here; give images.transpose(0, 2, 3, 1)"
    elif len(shape) == 4 and shape[-1] == 4:
        mend = "they have a fourth channel, as RGBA has; give images[..., :3], or put them on a background first"
    elif len(shape) == 4 and 1 in (shape[-1], shape[1]):
        axis = -1 if shape[-1] == 1 else 1
        mend = "they have one channel, grey; repeat it, np.repeat(images, 3, axis=-1)"
        mend += "" if axis == -1 else " after images.transpose(0, 2, 3, 1)"
    elif len(shape) == 3 and shape[-1] == 3:
        mend = "that is a single image without a batch axis; give images[None]"
    elif len(shape) == 3 and shape[0] == 3:
        mend = "that is a single image, channels first; give images.transpose(1, 2, 0)[None]"
    elif len(shape) == 3:
        mend = "they have no channels; of grey images give np.repeat(images[..., None], 3, axis=-1)"
    else:
        mend = "give one array of that shape"
    raise UserError(f"images have the shape {tuple(shape)}, and a model takes (batch, height, width, 3): {mend}")


def _check_pixels(least: float, greatest: float) -> None:
    if least < 0 or greatest > 255:
        raise UserError(
            f"images are integers from {least:.0f} to {greatest:.0f}, and integers are pixels from 0 to 255; scale "
            "them to that, 16-bit ones by images // 257, or give floats in the model's range"
        )


def _check_range(least: float, greatest: float, mean: Sequence[float], std: Sequence[float]) -> None:
    low = min(-m / s for m, s in zip(mean, std, strict=True))
    high = max((1 - m) / s for m, s in zip(mean, std, strict=True))
    tolerance = max(_TOLERANCE * (high - low), _LEAST_TOLERANCE)
    if least < low - tolerance or greatest > high + tolerance:
        raise UserError(
            f"images are floats from {least:.4g} to {greatest:.4g}, and floats must be in this model's range, "
            f"{low:.4g} to {high:.4g}; give pixels from 0 to 255 as uint8, or (pixels / 255 - mean) / std with the "
            "mean and std of model.preprocessing"
        )
