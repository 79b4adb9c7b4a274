"""Position embeddings of three kinds: tables added to tokens, terms added to attention scores, and rotary positions.

A grid is the number of patches along (height, width). For images with another grid than the architecture's, learned
tables are resampled.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from vit_jax.models import interpolate
from vit_jax.models.architecture import VitArchitecture

Grid = tuple[int, int]


class Learned(nnx.Module):
    """The 1-D table of the original: a learned vector for the class token, if there is one, and for each patch."""

    def __init__(self, arch: VitArchitecture, *, rngs: nnx.Rngs):
        self.arch = arch
        tokens = int(bool(arch.class_token)) + arch.grid[0] * arch.grid[1]
        self.table = nnx.Param(arch.posemb_std * jax.random.normal(rngs.params(), (1, tokens, arch.width)))

    def __call__(self, grid: Grid) -> Float[Array, "1 tokens width"]:
        table = jnp.asarray(resample(self.table[...], self.arch.grid, grid, self.arch.posemb_resample))
        return _with_registers(table, self.arch)


class Learned2d(nnx.Module):
    """A learned table for rows and one for columns, each with half the model's width (2010.11929, D.4).

    The embedding of a patch is the concatenation of those of its row and its column.
    """

    def __init__(self, arch: VitArchitecture, *, rngs: nnx.Rngs):
        self.arch = arch
        draw = lambda *shape: nnx.Param(arch.posemb_std * jax.random.normal(rngs.params(), shape))  # noqa: E731
        self.rows = draw(1, arch.grid[0], arch.width // 2)
        self.columns = draw(1, arch.grid[1], arch.width // 2)
        if arch.class_token:
            self.cls = draw(1, 1, arch.width)

    def __call__(self, grid: Grid) -> Float[Array, "1 tokens width"]:
        rows = resample(self.rows[...], (self.arch.grid[0], 1), (grid[0], 1), self.arch.posemb_resample)
        columns = resample(self.columns[...], (self.arch.grid[1], 1), (grid[1], 1), self.arch.posemb_resample)
        shape = (*grid, self.arch.width // 2)
        table = jnp.concatenate(
            [jnp.broadcast_to(rows[0, :, None], shape), jnp.broadcast_to(columns[0, None], shape)], axis=-1
        ).reshape(1, -1, self.arch.width)
        return _with_registers(
            jnp.concatenate([self.cls[...], table], axis=1) if self.arch.class_token else table, self.arch
        )


class SinCos(nnx.Module):
    """The fixed table of `sincos_2d`, with zeros for special tokens."""

    def __init__(self, arch: VitArchitecture, *, rngs: nnx.Rngs):
        self.arch = arch

    def __call__(self, grid: Grid) -> Float[Array, "1 tokens width"]:
        table = jnp.asarray(sincos_2d(grid, self.arch.width))
        return jnp.pad(table, ((0, 0), (self.arch.specials, 0), (0, 0)))


def _with_registers(table: Float[Array, "1 positions width"], arch: VitArchitecture) -> Float[Array, "1 tokens width"]:
    """Returns the table with zeros for the registers inserted between the class token and the patches."""
    if not arch.registers:
        return table
    cls, patches = table[:, : arch.specials - arch.registers], table[:, arch.specials - arch.registers :]
    return jnp.concatenate([cls, jnp.zeros((1, arch.registers, arch.width)), patches], axis=1)


TABLES = {"learned": Learned, "learned2d": Learned2d, "sincos2d": SinCos}


class Relative(nnx.Module):
    """Relative position embeddings: a learned key for each head and each offset between two patches (2010.11929, D.4).

    The product of a query with the key of an offset is added to the attention score. An offset is a pair, along height
    and width; the paper instead uses differences of raster indices, so that different pairs share a key. Three more
    keys are for pairs with special tokens: from a special token to a patch, from a patch to one, and between two.
    """

    def __init__(self, arch: VitArchitecture, *, rngs: nnx.Rngs):
        self.arch = arch
        heads = (arch.num_heads, arch.width // arch.num_heads)
        spans = offsets(arch.grid)
        self.offsets = nnx.Param(arch.posemb_std * jax.random.normal(rngs.params(), (1, spans[0] * spans[1], *heads)))
        if arch.specials:
            self.special = nnx.Param(arch.posemb_std * jax.random.normal(rngs.params(), (1, 3, *heads)))

    def __call__(self, queries: Float[Array, "batch tokens heads head_dim"], grid: Grid) -> Array:
        """Returns the terms to add to the attention scores, (batch, heads, tokens, tokens), float32."""
        heads, head_dim = queries.shape[2:]
        table = self.offsets[...].reshape(1, -1, heads * head_dim)
        table = jnp.asarray(resample(table, offsets(self.arch.grid), offsets(grid), self.arch.posemb_resample))
        keys = table.reshape(-1, heads, head_dim)
        if self.arch.specials:
            keys = jnp.concatenate([keys, self.special[0]])
        scores = jnp.einsum("bqhd,ohd->bhqo", queries, keys.astype(queries.dtype)).astype(jnp.float32)
        index = jnp.asarray(_offset_index(grid, self.arch.specials))  # (tokens, tokens)
        return jnp.take_along_axis(scores, jnp.broadcast_to(index, (*scores.shape[:3], index.shape[1])), axis=-1)


def offsets(grid: Grid) -> Grid:
    """Returns the number of different offsets between two patches along (height, width)."""
    return 2 * grid[0] - 1, 2 * grid[1] - 1


@functools.lru_cache(maxsize=32)
def _offset_index(grid: Grid, specials: int) -> np.ndarray:
    """Returns the index of the offset for each pair of a query and a key, (tokens, tokens).

    The last three indices are for pairs with special tokens.
    """
    (rows, columns), spans = np.mgrid[: grid[0], : grid[1]].reshape(2, -1), offsets(grid)
    dy, dx = (p[None, :] - p[:, None] + n - 1 for p, n in ((rows, grid[0]), (columns, grid[1])))
    index = np.full((specials + rows.size,) * 2, spans[0] * spans[1] + 2, np.int32)
    index[specials:, specials:] = dy * spans[1] + dx
    index[:specials, specials:] = spans[0] * spans[1]
    index[specials:, :specials] = spans[0] * spans[1] + 1
    return index


def rotate(
    x: Float[Array, "batch tokens heads head_dim"], grid: Grid, specials: int, base: float, coordinates: str = "grid"
) -> Float[Array, "batch tokens heads head_dim"]:
    """Returns queries or keys with 2-D rotary positions (2104.09864, 2403.13298). Special tokens are not changed.

    Half of head_dim is rotated by the row and half by the column, by the angles position · base^(-2i / half).
    The position is the index of the row or column, from 0. With `coordinates=unit` it is the coordinate of the patch's
    centre, from -1 to 1 over the height or width of the image, times 2π (2508.10104).
    """
    rows, columns = np.mgrid[: grid[0], : grid[1]].reshape(2, -1)
    if coordinates == "unit":
        rows, columns = (2 * np.pi * ((2 * p + 1) / n - 1) for p, n in ((rows, grid[0]), (columns, grid[1])))
    quarter = x.shape[-1] // 4
    frequencies = base ** -(np.arange(quarter) / quarter)
    angles = np.concatenate([np.outer(rows, frequencies), np.outer(columns, frequencies)], axis=1)
    angles = np.pad(angles, ((specials, 0), (0, 0)))[:, None]  # (tokens, 1, head_dim / 2)
    cos, sin = jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)


@functools.lru_cache(maxsize=32)
def sincos_2d(grid: Grid, width: int, temperature: float = 10_000.0) -> np.ndarray:
    """Returns a fixed table (1, rows · columns, width), float32, as in MoCo v3 and 2205.01580.

    The width has four equal parts: sin and cos of the column, then sin and cos of the row.
    """
    rows, columns = np.mgrid[: grid[0], : grid[1]]
    frequencies = temperature ** -(np.arange(width // 4) / (width // 4 - 1))
    columns, rows = (np.outer(p.ravel(), frequencies) for p in (columns, rows))
    table = np.concatenate([np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], axis=1)
    return table[None].astype(np.float32)


def resample(
    table: Float[Array | np.ndarray, "1 tokens width"], old: Sequence[int], new: Sequence[int], method: str = "bilinear"
) -> Float[Array | np.ndarray, "1 tokens_new width"]:
    """Returns a table of position embeddings resampled from the grid `old` to the grid `new`.

    Entries before those of the patches belong to special tokens and are not changed. `method` is one of
    `interpolate.METHODS`. The result is a NumPy array if `table` is one, else a JAX array.
    """
    if tuple(old) == tuple(new):
        return table
    special = table.shape[1] - old[0] * old[1]
    patches = interpolate.resize(table[0, special:].reshape(*old, -1), (new[0], new[1]), method)
    patches = patches.reshape(1, new[0] * new[1], -1)
    concatenate = np.concatenate if isinstance(table, np.ndarray) else jnp.concatenate
    return concatenate([table[:, :special], patches], axis=1)
