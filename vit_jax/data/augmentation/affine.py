"""Affine changes of images by the nearest pixel, in two passes along the axes."""

import jax
import jax.numpy as jnp

from vit_jax.data.augmentation import onehot


def warped(planes: jax.Array, matrices: jax.Array, holes: jax.Array, fill: float) -> jax.Array:
    """Returns planes whose pixel (x, y) comes from (a x + b y + c, d x + e y + f), as `Image.transform` of Pillow does.

    Coordinates are in pixels from the top left corner, so that the centre of the first pixel is (0.5, 0.5). The first
    pass moves pixels along rows, the second along columns (Catmull and Smith, "3-D transformations of images in
    scanline order", 1980), each to the nearest pixel. Shears along one axis and shifts are therefore exact. In a
    rotation by t, the pixel that is taken lies at most 1/2 from the exact place along y, and (1 + tan t) / 2 along x.

    Args:
        planes: bfloat16 (batch, channels, height, width_px), whole numbers from 0 to 255.
        matrices: float32 (batch, 6), the numbers a to f; e is not 0.
        holes: int32 (batch, 4): top, bottom, left and right of a box of the result that becomes `fill`; bottom and
            right are the first row and column after it.
        fill: what comes from outside of the image, a whole number from 0 to 255.
    """
    a, b, c, d, e, f = (value[:, None, None] for value in matrices.T)
    top, bottom, left, right = (value[:, None, None] for value in holes.T)
    height, width_px = planes.shape[-2:]
    row, column = jnp.arange(height)[:, None], jnp.arange(width_px)
    y, x = row + 0.5, column + 0.5
    # Pass 1 puts the pixels of row y of the image into the column x of the result, whose row will be (y - d x - f) / e.
    columns = jnp.floor(a * x + b * (y - d * x - f) / e + c).astype(jnp.int32)
    # Pass 2 takes what belongs into row y of the result from its row in the image.
    rows = jnp.floor(d * x + e * y + f).astype(jnp.int32)
    rows = jnp.where((row >= top) & (row < bottom) & (column >= left) & (column < right), -1, rows)
    planes = onehot.taken(planes - fill, columns)
    return onehot.taken(planes.swapaxes(2, 3), rows.swapaxes(1, 2)).swapaxes(2, 3) + fill
