"""Position embeddings: sin-cos tables, and a learned table at another resolution."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vit_jax.errors import UserError

Grid = tuple[int, int]  # patches along (height, width)


@functools.lru_cache(maxsize=32)
def sincos_2d(grid: Grid, width: int, temperature: float = 10_000.0) -> np.ndarray:
    """A fixed table (1, rows · columns, width) float32, as in MoCo v3 and 2205.01580.

    A quarter of the width each for sin and cos of the column, then sin and cos of the row.
    """
    rows, columns = np.mgrid[: grid[0], : grid[1]]
    frequencies = temperature ** -(np.arange(width // 4) / (width // 4 - 1))
    columns, rows = (np.outer(p.ravel(), frequencies) for p in (columns, rows))
    table = np.concatenate([np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], axis=1)
    return table[None].astype(np.float32)


def square_grid(tokens: int) -> Grid:
    """The square grid of so many patches.

    Raises:
        UserError: the number is not a square.
    """
    side = round(tokens**0.5)
    if side * side != tokens:
        raise UserError(f"{tokens} position embeddings are no square grid; say which with image_size=(height, width)")
    return side, side


def resample(
    table: Float[Array | np.ndarray, "1 tokens width"], old: Grid, new: Grid
) -> Float[Array | np.ndarray, "1 tokens_new width"]:
    """A table of positions, with its special tokens first, from grid `old` to grid `new`.

    Corner-aligned bilinear interpolation, which the original does by `scipy.ndimage.zoom` of order 1; what precedes
    the grid's entries stays. Two small products, so that it is as cheap and exact on devices as on the host.
    """
    if old == new:
        return table
    special = table.shape[1] - old[0] * old[1]
    rows, columns = (_interpolation(o, n).astype(table.dtype) for o, n in zip(old, new, strict=True))
    patches = table[0, special:].reshape(*old, -1)
    if isinstance(table, np.ndarray):
        patches = np.einsum("yi,xj,ijd->yxd", rows, columns, patches, optimize=True)
        return np.concatenate([table[:, :special], patches.reshape(1, new[0] * new[1], -1)], axis=1)
    patches = jnp.einsum("yi,xj,ijd->yxd", rows, columns, patches, precision="highest")
    return jnp.concatenate([table[:, :special], patches.reshape(1, new[0] * new[1], -1)], axis=1)


@functools.lru_cache(maxsize=32)
def _interpolation(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) of corner-aligned linear interpolation."""
    position = np.arange(new) * ((old - 1) / (new - 1)) if new > 1 else np.zeros(1)
    below = np.clip(np.floor(position).astype(int), 0, max(old - 2, 0))
    share = position - below
    matrix = np.zeros((new, old))
    matrix[np.arange(new), below] = 1 - share
    matrix[np.arange(new), np.minimum(below + 1, old - 1)] += share
    return matrix
