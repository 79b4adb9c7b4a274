"""Position embeddings: what is added to tokens, what is added to attention, and what turns queries and keys.

Grids are of patches along (height, width). Positions follow the images: another grid gets a resampled table.
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
    """A learned vector for every patch in raster order, after one for the class token: the original's 1-D table."""

    def __init__(self, arch: VitArchitecture, *, rngs: nnx.Rngs):
        self.arch = arch
        tokens = int(bool(arch.class_token)) + arch.grid[0] * arch.grid[1]
        self.table = nnx.Param(arch.posemb_std * jax.random.normal(rngs.params(), (1, tokens, arch.width)))

    def __call__(self, grid: Grid) -> Float[Array, "1 tokens width"]:
        table = jnp.asarray(resample(self.table[...], self.arch.grid, grid, self.arch.posemb_resample))
        return _with_registers(table, self.arch)


class Learned2d(nnx.Module):
    """Two learned tables of half the width, one for the row and one for the column (2010.11929, D.4)."""

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
    """The fixed table; special tokens' entries are zero."""

    def __init__(self, arch: VitArchitecture, *, rngs: nnx.Rngs):
        self.arch = arch

    def __call__(self, grid: Grid) -> Float[Array, "1 tokens width"]:
        table = jnp.asarray(sincos_2d(grid, self.arch.width))
        return jnp.pad(table, ((0, 0), (self.arch.specials, 0), (0, 0)))


def _with_registers(table: Float[Array, "1 positions width"], arch: VitArchitecture) -> Float[Array, "1 tokens width"]:
    """Zeros for the registers, which stand between the class token and the patches and have no positions."""
    if not arch.registers:
        return table
    cls, patches = table[:, : arch.specials - arch.registers], table[:, arch.specials - arch.registers :]
    return jnp.concatenate([cls, jnp.zeros((1, arch.registers, arch.width)), patches], axis=1)


TABLES = {"learned": Learned, "learned2d": Learned2d, "sincos2d": SinCos}


class Relative(nnx.Module):
    """A learned key for every offset between two patches, which queries attend to beside the content.

    2010.11929, D.4. The offsets are along both sides of the grid, and have one key a head; those in raster order of the
    paper tie some of these. Three more stand for pairs with special tokens: from one to a patch, back, and among them.
    """

    def __init__(self, arch: VitArchitecture, *, rngs: nnx.Rngs):
        self.arch = arch
        heads = (arch.num_heads, arch.width // arch.num_heads)
        spans = offsets(arch.grid)
        self.offsets = nnx.Param(arch.posemb_std * jax.random.normal(rngs.params(), (1, spans[0] * spans[1], *heads)))
        if arch.specials:
            self.special = nnx.Param(arch.posemb_std * jax.random.normal(rngs.params(), (1, 3, *heads)))

    def __call__(self, queries: Float[Array, "batch tokens heads head_dim"], grid: Grid) -> Array:
        """What is added to the attention's scores, (batch, heads, tokens, tokens), float32."""
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
    """How many offsets there are between two patches, along (height, width)."""
    return 2 * grid[0] - 1, 2 * grid[1] - 1


@functools.lru_cache(maxsize=32)
def _offset_index(grid: Grid, specials: int) -> np.ndarray:
    """For each pair of query and key the index of its offset; those of pairs with special tokens come last."""
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
    """Rotary positions in two dimensions (2104.09864, 2403.13298), for queries and keys; special tokens stay.

    Half of head_dim turns with the row and half with the column, by angles position · base^(-2i / half). The positions
    are the numbers of row and column, from 0; with `coordinates=unit` they are the patch's centre, from -1 to 1 over
    the height and width of whatever image there is, times 2π (2508.10104).
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
    """A fixed table (1, rows · columns, width) float32, as in MoCo v3 and 2205.01580.

    A quarter of the width each for sin and cos of the column, then sin and cos of the row.
    """
    rows, columns = np.mgrid[: grid[0], : grid[1]]
    frequencies = temperature ** -(np.arange(width // 4) / (width // 4 - 1))
    columns, rows = (np.outer(p.ravel(), frequencies) for p in (columns, rows))
    table = np.concatenate([np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)], axis=1)
    return table[None].astype(np.float32)


def resample(
    table: Float[Array | np.ndarray, "1 tokens width"], old: Sequence[int], new: Sequence[int], method: str = "bilinear"
) -> Float[Array | np.ndarray, "1 tokens_new width"]:
    """A table of positions, with its special tokens first, from grid `old` to grid `new`; what precedes the grid stays.

    `method` is one of `interpolate.METHODS`. Two small products, so that it is as cheap and exact on devices as on the
    host.
    """
    if tuple(old) == tuple(new):
        return table
    special = table.shape[1] - old[0] * old[1]
    patches = interpolate.resize(table[0, special:].reshape(*old, -1), (new[0], new[1]), method)
    patches = patches.reshape(1, new[0] * new[1], -1)
    concatenate = np.concatenate if isinstance(table, np.ndarray) else jnp.concatenate
    return concatenate([table[:, :special], patches], axis=1)
