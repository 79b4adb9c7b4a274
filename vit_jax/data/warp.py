"""Geometric changes of images on the device, by bilinear sampling."""

import jax
import jax.numpy as jnp


def rotated_and_shifted(images: jax.Array, angle: jax.Array, down: jax.Array, right: jax.Array) -> jax.Array:
    """Returns images that are rotated about their centre and then shifted; pixels from outside repeat the edge.

    Args:
        images: float (batch, height, width_px, channels).
        angle: in radians (batch,).
        down: in pixels (batch,).
        right: in pixels (batch,).
    """
    _, height, width_px, _ = images.shape
    angle, down, right = (value[:, None, None] for value in (angle, down, right))
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    x = jnp.arange(width_px, dtype=jnp.float32)[None, :] - (width_px - 1) / 2
    # The place that each pixel of the result comes from is given by the inverse: shifting back, then rotating back.
    y, x = y - down, x - right
    from_y = jnp.cos(angle) * y - jnp.sin(angle) * x + (height - 1) / 2
    from_x = jnp.sin(angle) * y + jnp.cos(angle) * x + (width_px - 1) / 2
    return _bilinear(images, jnp.clip(from_y, 0, height - 1), jnp.clip(from_x, 0, width_px - 1))


def _bilinear(images: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the values at the positions y, x (batch, height, width_px), in pixels, which lie inside the image."""
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
