"""The operations that RandAugment and AutoAugment choose from, those of Pillow, with one operation for each row.

All rows go through the same three kernels, whatever their operations: an affine change, a blend with the grey or the
smoothed image, and a table of values for each channel. A kernel that a row has no use for leaves it as it is. Results
are rounded as Pillow rounds them.
"""

import dataclasses

import jax
import jax.numpy as jnp

from vit_jax.data.augmentation import affine, onehot

NAMES = (
    "autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "color", "contrast", "brightness",
    "sharpness", "shear_x", "shear_y", "translate_x", "translate_y", "cutout", "solarize_add", "identity",
)  # fmt: skip
FILL = 128.0  # what comes from outside of the image, and into the square of cutout


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Operation:
    """The operation of each row.

    Attributes:
        number: of the name in `NAMES`, int32 (batch,).
        amount: float32 (batch,). In rotate: degrees, counterclockwise. In shear_x and shear_y: tangent of the angle. In
            translate_x and translate_y: shift to the left and up, as a share of the width and the height. In cutout:
            half the side of the square, as a share of the image's shorter side. In posterize: bits that are kept, 1 to
            8. In solarize: least value that is inverted. In solarize_add: what is added to values below 128. In color,
            contrast, brightness and sharpness: factor of Pillow's `ImageEnhance`. Others don't read it.
        centre: of the square of cutout, y and x as shares of the height and the width, float32 (batch, 2).
    """

    number: jax.Array
    amount: jax.Array
    centre: jax.Array

    def amount_of(self, name: str, otherwise: float) -> jax.Array:
        """Returns the amounts of the rows that have an operation, and `otherwise` for other rows; (batch,)."""
        return jnp.where(self.is_any(name), self.amount, otherwise)

    def is_any(self, *names: str) -> jax.Array:
        """Returns whether each row has one of some operations, bool (batch,)."""
        return (self.number[:, None] == jnp.array([NAMES.index(name) for name in names])).any(1)


def applied(planes: jax.Array, operation: Operation) -> jax.Array:
    """Returns planes, as the package's docstring describes them, after the operation of each row."""
    _, _, height, width_px = planes.shape
    matrices, holes = _matrices(operation, height, width_px), _holes(operation, height, width_px)
    planes = affine.warped(planes, matrices, holes, FILL)
    grey = _grey(planes)
    blended = _blended(planes, grey, operation)
    return onehot.looked_up(_tables(blended, grey, operation), blended)


def _matrices(operation: Operation, height: int, width_px: int) -> jax.Array:
    """Returns the argument `matrices` of `affine.warped`; rows without a geometric operation have the identity."""
    angle = jnp.deg2rad(operation.amount_of("rotate", 0))
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    y, x = height / 2, width_px / 2  # the centre, which rotations keep
    return jnp.stack(
        [
            cos,
            -sin + operation.amount_of("shear_x", 0),
            x - cos * x + sin * y + operation.amount_of("translate_x", 0) * width_px,
            sin + operation.amount_of("shear_y", 0),
            cos,
            y - sin * x - cos * y + operation.amount_of("translate_y", 0) * height,
        ],
        axis=-1,
    )


def _holes(operation: Operation, height: int, width_px: int) -> jax.Array:
    """Returns the holes of `affine.warped`; empty ones for rows without cutout."""
    half = jnp.round(operation.amount_of("cutout", 0) * min(height, width_px))[:, None]
    centre = jnp.floor(operation.centre * jnp.array([height, width_px], jnp.float32))  # (batch, 2)
    return jnp.stack([centre - half, centre + half], axis=-1).reshape(-1, 4).astype(jnp.int32)


def _blended(planes: jax.Array, grey: jax.Array, operation: Operation) -> jax.Array:
    """Returns the planes after `color` and `sharpness`, which blend them with the grey and the smoothed ones."""
    is_color = operation.is_any("color")[:, None, None, None]
    factor = jnp.where(operation.is_any("color", "sharpness"), operation.amount, 1)[:, None, None, None]
    other = jnp.where(is_color, grey, _smooth(planes))
    return _rounded(other + factor * (planes.astype(jnp.float32) - other)).astype(planes.dtype)


def _grey(planes: jax.Array) -> jax.Array:
    """Returns the planes in grey, float32 (batch, 1, height, width_px), with the weights and the rounding of Pillow."""
    red, green, blue = (planes[:, channel : channel + 1].astype(jnp.float32) for channel in range(3))
    return jnp.floor((19595 * red + 38470 * green + 7471 * blue + 32768) / 65536)


def _smooth(planes: jax.Array) -> jax.Array:
    """Returns the planes after Pillow's filter SMOOTH, which leaves the pixels at the edges as they are, float32.

    The sums of three neighbours are matrix products, because moving pixels by one is slow on a TPU.
    """
    images = planes.astype(jnp.float32)
    height, width_px = images.shape[2:]
    in_row = jnp.einsum("bchw,wv->bchv", images, _band(width_px), precision="default")
    # A TPU rounds what it multiplies to 8 bits, so the sums, up to 765, are split in two parts.
    high = jnp.floor(in_row / 4)
    high, low = (jnp.einsum("bchv,hg->bcgv", x, _band(height), precision="default") for x in (high, in_row - 4 * high))
    smooth = jnp.floor((4 * (high + images) + low + 6.5) * (1 / 13))
    row, column = jnp.arange(height)[:, None], jnp.arange(width_px)
    inner = (row > 0) & (row < height - 1) & (column > 0) & (column < width_px - 1)
    return jnp.where(inner, smooth, images)


def _band(size: int) -> jax.Array:
    """Returns the matrix whose product with a vector has the sums of each entry and its two neighbours."""
    place = jnp.arange(size)
    return (abs(place[:, None] - place) <= 1).astype(jnp.float32)


def _tables(planes: jax.Array, grey: jax.Array, operation: Operation) -> jax.Array:
    """Returns what each value becomes in each channel, float32 (batch, 3, 256); the same value in other operations."""
    old = jnp.arange(256.0)
    counts = onehot.histogram(planes)
    mean = jnp.floor(grey.mean((1, 2, 3)) + 0.5)

    def amount(name: str, otherwise: float) -> jax.Array:
        return operation.amount_of(name, otherwise)[:, None, None]

    bit = jnp.exp2(8 - amount("posterize", 8))
    least = jnp.where(operation.is_any("invert"), 0, operation.amount_of("solarize", 256))[:, None, None]
    new = jnp.floor(old / bit) * bit
    new = jnp.where(old < least, new, 255 - old)
    new = jnp.where(old < 128, jnp.minimum(new + amount("solarize_add", 0), 255), new)
    new = _rounded(amount("brightness", 1) * new)
    mean = jnp.where(operation.is_any("contrast"), mean, 0)[:, None, None]
    new = _rounded(mean + amount("contrast", 1) * (new - mean))
    new = jnp.where(operation.is_any("autocontrast")[:, None, None], _stretched(counts), new)
    return jnp.where(operation.is_any("equalize")[:, None, None], _equalized(counts), new)


def _stretched(counts: jax.Array) -> jax.Array:
    """Returns the tables of `ImageOps.autocontrast`: the values that occur in a channel are stretched to 0 to 255."""
    old = jnp.arange(256)
    low = jnp.where(counts > 0, old, 255).min(-1, keepdims=True)
    high = jnp.where(counts > 0, old, 0).max(-1, keepdims=True)
    stretched = (old - low) * 255 // jnp.maximum(high - low, 1)
    return jnp.where(high > low, jnp.clip(stretched, 0, 255), old).astype(jnp.float32)


def _equalized(counts: jax.Array) -> jax.Array:
    """Returns the tables of `ImageOps.equalize`: the values that occur in a channel are spread by their ranks."""
    old = jnp.arange(256)
    upto = jnp.cumsum(counts, axis=-1)
    below, total = upto - counts, upto[..., -1:]
    last = total - jnp.where(upto < total, upto, 0).max(-1, keepdims=True)  # the count of the greatest value
    step = (total - last) // 255
    spread = jnp.minimum((below + step // 2) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, spread, old).astype(jnp.float32)


def _rounded(values: jax.Array) -> jax.Array:
    return jnp.floor(jnp.clip(values, 0, 255))
