"""Augmentation on the device, inside the training step.

What happens to a row depends on its own key alone (and, in mixup, on the row after it), so that a sharded batch is
augmented as a whole one is.
"""

import jax
import jax.numpy as jnp

from vit_jax import config as config_lib


def augment(
    images: jax.Array, labels: jax.Array, keys: jax.Array, config: config_lib.Augmentation
) -> tuple[jax.Array, jax.Array]:
    """Flips, rotates and shifts, then mixes; what is off in `config` costs nothing.

    Args:
        images: float32 (batch, height, width_px, 3), normalised.
        labels: float32 (batch, classes).
        keys: typed PRNG keys (batch,), one for each row.
        config: what to do, and how strongly.

    Returns:
        Images and labels of the same shapes.
    """

    def keys_for(purpose: int) -> jax.Array:
        return jax.vmap(jax.random.fold_in, (0, None))(keys, purpose)

    if config.flip:
        flipped = jax.vmap(jax.random.bernoulli)(keys_for(0))
        images = jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)
    if config.rotate_degrees or config.shift_pixels:
        images = _rotate_and_shift(images, keys_for(1), config.rotate_degrees, config.shift_pixels)
    if config.mixup:
        images, labels = _mixup(images, labels, keys_for(2), config.mixup)
    return images, labels


def _rotate_and_shift(images: jax.Array, keys: jax.Array, degrees: float, pixels: float) -> jax.Array:
    """One bilinear resampling about the centre; what comes in from outside repeats the edge."""
    _, height, width_px, _ = images.shape
    most = jnp.array([jnp.deg2rad(degrees), pixels, pixels], jnp.float32)
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (3,), jnp.float32, -1, 1))(keys) * most
    angle, down, right = (value[:, None, None] for value in drawn.T)
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    x = jnp.arange(width_px, dtype=jnp.float32)[None, :] - (width_px - 1) / 2
    # Where each pixel of the result comes from: the inverse of rotating by `angle` and then shifting.
    y, x = y - down, x - right
    from_y = jnp.cos(angle) * y - jnp.sin(angle) * x + (height - 1) / 2
    from_x = jnp.sin(angle) * y + jnp.cos(angle) * x + (width_px - 1) / 2
    return _bilinear(images, jnp.clip(from_y, 0, height - 1), jnp.clip(from_x, 0, width_px - 1))


def _bilinear(images: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """The values of `images` at the positions y, x (batch, height, width_px), in pixels and inside of the image."""
    batch, height, width_px, channels = images.shape
    flat = images.reshape(batch, height * width_px, channels)
    top = jnp.clip(jnp.floor(y), 0, max(height - 2, 0)).astype(jnp.int32)
    left = jnp.clip(jnp.floor(x), 0, max(width_px - 2, 0)).astype(jnp.int32)
    low, near = (y - top)[..., None], (x - left)[..., None]

    def at(row: jax.Array, column: jax.Array) -> jax.Array:
        numbers = (jnp.minimum(row, height - 1) * width_px + jnp.minimum(column, width_px - 1)).reshape(batch, -1, 1)
        return jnp.take_along_axis(flat, numbers, axis=1).reshape(images.shape)

    upper = at(top, left) * (1 - near) + at(top, left + 1) * near
    lower = at(top + 1, left) * (1 - near) + at(top + 1, left + 1) * near
    return upper * (1 - low) + lower * low


def _mixup(images: jax.Array, labels: jax.Array, keys: jax.Array, alpha: float) -> tuple[jax.Array, jax.Array]:
    """Each row with the one after it (Zhang et al., arXiv:1710.09412), its own share at least a half."""
    share = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha, dtype=jnp.float32))(keys)
    share = jnp.maximum(share, 1 - share)

    def mixed(rows: jax.Array) -> jax.Array:
        weight = share.reshape(-1, *[1] * (rows.ndim - 1))
        return rows * weight + jnp.roll(rows, -1, axis=0) * (1 - weight)

    return mixed(images), mixed(labels)
