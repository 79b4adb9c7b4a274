"""Interpolation between grids as small matrices, one along each side: exact, and as cheap on devices as on the host."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

METHODS = ("bilinear", "bicubic", "bicubic_antialias")


def resize(
    values: Float[Array | np.ndarray, "rows columns width"], new: tuple[int, int], method: str = "bilinear"
) -> Float[Array | np.ndarray, "rows_new columns_new width"]:
    """A grid of vectors at another size.

    `bilinear` is corner-aligned, which the original does by `scipy.ndimage.zoom` of order 1; `bicubic` has half-pixel
    centres and a = -0.75, as DINOv2 and the transformers library; `bicubic_antialias` has a = -0.5 and a filter that
    widens where the grid shrinks, as timm.
    """
    rows, columns = (matrix(o, n, method).astype(values.dtype) for o, n in zip(values.shape, new, strict=False))
    if isinstance(values, np.ndarray):
        return np.einsum("yi,xj,ijd->yxd", rows, columns, values, optimize=True)
    return jnp.einsum("yi,xj,ijd->yxd", rows, columns, values, precision="highest")


@functools.lru_cache(maxsize=64)
def matrix(old: int, new: int, method: str = "bilinear") -> np.ndarray:
    """The matrix (new, old) of an interpolation along one side, float64; its rows sum to 1."""
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
    widening = max(old / new, 1.0)
    centre = (np.arange(new)[:, None] + 0.5) * (old / new)
    weights = _cubic((np.arange(old)[None] + 0.5 - centre) / widening, a=-0.5)
    return weights / weights.sum(axis=1, keepdims=True)


def _half_pixel(old: int, new: int, a: float) -> np.ndarray:
    """Four taps around each centre; those beyond the border count for the border's entry."""
    centre = (np.arange(new) + 0.5) * (old / new) - 0.5
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        at = np.floor(centre).astype(int) + tap
        np.add.at(weights, (np.arange(new), np.clip(at, 0, old - 1)), _cubic(centre - at, a))
    return weights


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel."""
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def resize_patches(kernel: np.ndarray, new: tuple[int, int]) -> np.ndarray:
    """A patch-embedding kernel (height, width, 3, features) for another patch size, float32.

    The pseudo-inverse of the resize of patches (FlexiViT, 2212.08013, section 3.4): embeddings of a patch that was
    resized to the new size are those of the patch itself.
    """
    rows, columns = (np.linalg.pinv(_linear(o, n).T) for o, n in zip(kernel.shape, new, strict=False))
    return np.einsum("yi,xj,ijcd->yxcd", rows, columns, kernel.astype(np.float64), optimize=True).astype(np.float32)


def _linear(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) of linear interpolation with half-pixel centres."""
    centre = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    below = np.minimum(np.floor(centre).astype(int), max(old - 2, 0))
    weights = np.zeros((new, old))
    weights[np.arange(new), below] = 1 - (centre - below)
    weights[np.arange(new), np.minimum(below + 1, old - 1)] += centre - below
    return weights
