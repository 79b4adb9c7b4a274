"""Colour jitter: random changes of brightness, contrast, saturation and hue."""

import jax
import jax.numpy as jnp

from vit_jax.randomness import Keys

_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in grey, ITU-R 601-2, as Pillow and torchvision have them


def jittered(
    images: jax.Array, keys: Keys, brightness: float, contrast: float, saturation: float, hue: float
) -> jax.Array:
    """Returns the images after the four changes, in this order; values are clipped to 0 to 255 after each.

    The first three are those of `ImageEnhance` of Pillow (Brightness, Contrast, Color), without rounding. Their factors
    are drawn from 1 - x to 1 + x, but not below 0, where x is the argument.

    Args:
        images: float32 (batch, height, width_px, 3), 0 to 255.
        keys: typed PRNG keys (batch,).
        brightness: at least 0, as the next two.
        contrast: of the distance to the mean of the image in grey.
        saturation: of the distance to the image in grey.
        hue: the largest turn of the colour circle, in turns.
    """
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (4,), jnp.float32, -1, 1))(keys)
    return adjusted(
        images,
        _factors(drawn[:, 0], brightness),
        _factors(drawn[:, 1], contrast),
        _factors(drawn[:, 2], saturation),
        drawn[:, 3] * hue if hue else None,
    )


def adjusted(
    images: jax.Array, brightness: jax.Array, contrast: jax.Array, saturation: jax.Array, turn: jax.Array | None
) -> jax.Array:
    """Returns the images after changes of given size, each (batch,); see `jittered`.

    Args:
        images: float32 (batch, height, width_px, 3), 0 to 255.
        brightness: factors, as the next two.
        contrast: see `jittered`.
        saturation: see `jittered`.
        turn: of the hue; None for none.
    """
    images = _blend(images, 0.0, brightness)
    images = _blend(images, _grey(images).mean((1, 2, 3), keepdims=True), contrast)
    images = _blend(images, _grey(images), saturation)
    return images if turn is None else _turned(images, turn)


def _factors(drawn: jax.Array, most: float) -> jax.Array:
    """Returns factors from uniform draws in -1 to 1."""
    least = max(1 - most, 0)
    return least + (drawn + 1) / 2 * (1 + most - least)


def _blend(images: jax.Array, other: jax.Array | float, factor: jax.Array) -> jax.Array:
    return jnp.clip(other + factor[:, None, None, None] * (images - other), 0, 255)


def _grey(images: jax.Array) -> jax.Array:
    """Returns the images in grey, (batch, height, width_px, 1)."""
    return (images * jnp.array(_WEIGHTS)).sum(-1, keepdims=True)


def _turned(images: jax.Array, turn: jax.Array) -> jax.Array:
    """Returns the images with each colour moved around the colour circle of HSV, by `turn` (batch,) in turns.

    The hue is that of Python's `colorsys`. Channels are compared in pairs, and never with the greatest one by ==, as
    dm_pix does: where XLA computes a value twice and rounds it differently, no channel equals the greatest, and the
    colour is another one.
    """
    red, green, blue = jnp.moveaxis(images, -1, 0)
    least, greatest = images.min(-1), images.max(-1)
    spread = greatest - least
    unit = jnp.where(spread > 0, spread, 1)
    sixths = jnp.where(  # of the circle, from red over yellow, green, cyan, blue and magenta
        (red >= green) & (red >= blue),
        (green - blue) / unit,
        jnp.where(green >= blue, 2 + (blue - red) / unit, 4 + (red - green) / unit),
    )
    sixths = (sixths + 6 * turn[:, None, None]) % 6
    shares = [jnp.abs(sixths - 3) - 1, 2 - jnp.abs(sixths - 2), 2 - jnp.abs(sixths - 4)]
    return least[..., None] + spread[..., None] * jnp.clip(jnp.stack(shares, -1), 0, 1)
