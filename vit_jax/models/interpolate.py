"""Resizes grids of vectors and patch kernels by two matrix products, one along each side.

The interpolation matrices are small, and computed in float64 on the host. The products can run on a device too.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vit_jax.errors import UserError
from vit_jax.values import either

METHODS = ("bilinear", "bicubic", "bicubic_antialias")


def resize(
    values: Float[Array | np.ndarray, "rows columns width"], new: tuple[int, int], method: str = "bilinear"
) -> Float[Array | np.ndarray, "rows_new columns_new width"]:
    """Returns a grid of vectors resized to `new`, its new (rows, columns).

    The result is a NumPy array if `values` is one, else a JAX array. `method` names the interpolation:

    - `bilinear` aligns the corners, as the original's `scipy.ndimage.zoom` of order 1 does.
    - `bicubic` has half-pixel centres and a = -0.75, as in DINOv2 and the transformers library.
    - `bicubic_antialias` has half-pixel centres and a = -0.5, and its filter widens if the grid shrinks, as in timm.
    """
    rows, columns = (matrix(o, n, method).astype(values.dtype) for o, n in zip(values.shape, new, strict=False))
    if isinstance(values, np.ndarray):
        return np.einsum("yi,xj,ijd->yxd", rows, columns, values, optimize=True)
    return jnp.einsum("yi,xj,ijd->yxd", rows, columns, values, precision="highest")


@functools.lru_cache(maxsize=64)
def matrix(old: int, new: int, method: str = "bilinear") -> np.ndarray:
    """Returns the matrix, float64 (new, old), that interpolates a line of `old` values to `new` values.

    Each row sums to 1, up to rounding. The array is cached, and must not be changed.

    Args:
        old: the number of values before.
        new: the number of values after.
        method: one of `METHODS`; not checked if `old` equals `new`.

    Raises:
        UserError: the method is unknown.
    """
    if old == new:
        return np.eye(old)
    if method == "bilinear":
        position = np.arange(new) * ((old - 1) / (new - 1)) if new > 1 else np.zeros(1)
        below = np.clip(np.floor(position).astype(int), 0, max(old - 2, 0))
        share = position - below
        weights = np.zeros((new, old))
        weights[np.arange(new), below] = 1 - share
        weights[np.arange(new), np.minimum(below + 1, old - 1)] += share
        return weights
    if method == "bicubic":
        return _half_pixel(old, new, a=-0.75)
    if method != "bicubic_antialias":
        raise UserError(f"there is no interpolation {method!r}; take {either(METHODS)}")
    widening = max(old / new, 1.0)
    centre = (np.arange(new)[:, None] + 0.5) * (old / new)
    weights = _cubic((np.arange(old)[None] + 0.5 - centre) / widening, a=-0.5)
    return weights / weights.sum(axis=1, keepdims=True)


def _half_pixel(old: int, new: int, a: float) -> np.ndarray:
    """Returns the matrix (new, old) of cubic interpolation with half-pixel centres and four taps per new position.

    The weight of a tap outside the grid goes to the nearest entry at the border. `a` is the parameter of `_cubic`.
    """
    centre = (np.arange(new) + 0.5) * (old / new) - 0.5
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        at = np.floor(centre).astype(int) + tap
        np.add.at(weights, (np.arange(new), np.clip(at, 0, old - 1)), _cubic(centre - at, a))
    return weights


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Returns the weights of the cubic convolution kernel of Keys (1981) with the parameter `a`, for each distance."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def resize_patches(kernel: np.ndarray, new: tuple[int, int]) -> np.ndarray:
    """Returns a patch-embedding kernel for the patch size `new`, float32, by the pseudo-inverse resize of FlexiViT.

    With the new kernel, a patch that is enlarged to the new size has the embedding that it had before with the old
    kernel (2212.08013, section 3.4).

    Args:
        kernel: (height, width, channels, features).
        new: the new (height, width) of patches, in pixels.
    """
    rows, columns = (np.linalg.pinv(_linear(o, n).T) for o, n in zip(kernel.shape, new, strict=False))
    return np.einsum("yi,xj,ijcd->yxcd", rows, columns, kernel.astype(np.float64), optimize=True).astype(np.float32)


def _linear(old: int, new: int) -> np.ndarray:
    """Returns the matrix (new, old) of linear interpolation with half-pixel centres; the border is repeated."""
    centre = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    below = np.minimum(np.floor(centre).astype(int), max(old - 2, 0))
    weights = np.zeros((new, old))
    weights[np.arange(new), below] = 1 - (centre - below)
    weights[np.arange(new), np.minimum(below + 1, old - 1)] += centre - below
    return weights
