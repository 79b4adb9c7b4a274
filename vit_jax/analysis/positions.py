"""The similarity of position embeddings (2010.11929, Figure 7, centre, and Figure 10)."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from vit_jax.models.functional import split


def table(model: Any) -> Float[np.ndarray, "patches width"] | None:
    """Returns the position embeddings of the patches, or None if the model has no such table.

    If every layer has a table of its own, this is the table of the first layer.
    """
    arch = model.arch
    if hasattr(model, "positions"):
        made = model.positions(arch.grid)
    elif (first := _first(model)) is not None:
        made = first(arch.grid)
    else:
        return None
    return np.asarray(made[0, arch.specials :], np.float32)


def _first(model: Any) -> Any:
    """Returns the position embeddings of the first layer, for a model whose layers have tables of their own."""
    if not hasattr(model, "encoder"):
        return None
    blocks = getattr(model.encoder.blocks, "rows", model.encoder.blocks)  # axial blocks add positions before rows
    if not hasattr(blocks, "positions"):
        return None
    bind, stacked = split(blocks.positions)
    return bind(jax.tree.map(lambda leaf: leaf[0], stacked))


def similarity(table: Float[np.ndarray, "patches width"], grid: tuple[int, int]) -> Float[np.ndarray, "y x y x"]:
    """Returns the cosine similarity of each position's embedding with all others, (rows, columns, rows, columns).

    An embedding of zeros has the similarity 0 with all.

    Args:
        table: one embedding for each patch, in raster order.
        grid: the number of patches along (height, width).
    """
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    unit = table / np.where(lengths > 0, lengths, 1)
    return (unit @ unit.T).reshape(*grid, *grid)
