"""Random boxes of images: which box random erasing fills, and which box CutMix takes from another image."""

import math

import jax
import jax.numpy as jnp

from vit_jax.randomness import Keys, fold_in

# ImageNet's mean and deviation of each channel, of pixels from 0 to 255.
_MEAN = tuple(255 * value for value in (0.485, 0.456, 0.406))
_DEVIATION = tuple(255 * value for value in (0.229, 0.224, 0.225))
_TRIES = 10


def erased(
    images: jax.Array, keys: Keys, probability: float, area: tuple[float, float], aspect_min: float, fill: str
) -> jax.Array:
    """Returns the images with one random box filled, or as they are (random erasing, 1708.04896, Algorithm 1).

    As in DeiT's code, an image stays as it is if ten boxes that are drawn for it don't fit into it, and the noise is
    normal with ImageNet's mean and deviation, so that some of it lies outside of 0 to 255.

    Args:
        images: float32 (batch, height, width_px, 3), 0 to 255.
        keys: typed PRNG keys (batch,).
        probability: that an image has such a box.
        area: smallest and largest area of the box, as shares of the image.
        aspect_min: smallest ratio of the box's height and width; the largest is its inverse. Its logarithm is uniform.
        fill: "noise", drawn for each pixel and channel, or "mean", ImageNet's.
    """
    height, width_px = images.shape[1:3]
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (1 + 4 * _TRIES,)))(fold_in(keys, "box"))
    happens, tries = drawn[:, 0] < probability, drawn[:, 1:].reshape(-1, 4, _TRIES)
    size = (area[0] + (area[1] - area[0]) * tries[:, 0]) * height * width_px
    aspect = jnp.exp((2 * tries[:, 1] - 1) * math.log(aspect_min))
    high, wide = jnp.round(jnp.sqrt(size * aspect)), jnp.round(jnp.sqrt(size / aspect))
    fits = (high < height) & (wide < width_px)
    first = jnp.argmax(fits, axis=1)[:, None]
    chosen = [jnp.take_along_axis(value, first, axis=1)[:, 0] for value in (high, wide, tries[:, 2], tries[:, 3])]
    high, wide, down, right = chosen
    top, left = jnp.floor(down * (height - high + 1)), jnp.floor(right * (width_px - wide + 1))
    inside = _inside(images.shape, top, top + high, left, left + wide)
    filling = jnp.broadcast_to(jnp.array(_MEAN, jnp.float32), images.shape)
    if fill == "noise":
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(fold_in(keys, "noise"))
        filling = filling + noise * jnp.array(_DEVIATION)
    return jnp.where(inside & (happens & fits.any(1))[:, None, None, None], filling, images)


def kept(shape: tuple[int, ...], keys: Keys, alpha: float) -> jax.Array:
    """Returns 1 for the pixels that an image keeps in CutMix (1905.04899), and 0 for the box of another image.

    The centre of the box is a random pixel, and what would lie outside of the image is cut off.

    Args:
        shape: of the images, (batch, height, width_px, 3).
        keys: typed PRNG keys (batch,).
        alpha: of the Beta distribution of the share of the image that is kept, before the box is cut off.

    Returns:
        float32 (batch, height, width_px, 1).
    """
    sides = jnp.array(shape[1:3], jnp.float32)
    share = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha, dtype=jnp.float32))(fold_in(keys, "share"))
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(fold_in(keys, "centre"))
    centre = jnp.floor(drawn * sides)  # (batch, 2), y and x
    half = jnp.floor(jnp.floor(sides * jnp.sqrt(1 - share)[:, None]) / 2)
    (top, left), (bottom, right) = (centre - half).T, (centre + half).T
    return 1 - _inside(shape, top, bottom, left, right).astype(jnp.float32)


def _inside(shape: tuple[int, ...], top: jax.Array, bottom: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns whether each pixel lies in the box of its row, bool (batch, height, width_px, 1).

    The sides are those of `affine.warped`'s holes, (batch,).
    """
    top, bottom, left, right = (side[:, None, None] for side in (top, bottom, left, right))
    row, column = jnp.arange(shape[1])[:, None], jnp.arange(shape[2])
    return ((row >= top) & (row < bottom) & (column >= left) & (column < right))[..., None]
