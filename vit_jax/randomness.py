"""Random keys of JAX as a function of the seed, the stream, the step and the row of the global batch.

An image is augmented and dropped out the same way whatever the devices, processes or micro-batches that its batch is
split over.
"""

from typing import overload

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from vit_jax import streams

Keys = Key[Array, " batch"]


def stream_key(seed: int | Key[Array, ""], stream: str) -> Key[Array, ""]:
    """Returns the key of a stream; `streams` lists their names. `seed` is a seed, or the key `jax.random.key(seed)`."""
    root = jax.random.key(seed) if isinstance(seed, int) else seed
    return jax.random.fold_in(root, streams.number(stream))


def row_keys(key: Key[Array, ""], rows: int | Array) -> Keys:
    """Returns a key for each row: `fold_in(key, row)`.

    Args:
        key: one key, such as that of a step.
        rows: the number of rows, which are then 0, 1, 2, …; or the rows' numbers (batch,).
    """
    numbers = jnp.arange(rows) if isinstance(rows, int) else rows
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


@overload
def fold_in(keys: Keys, data: Array | int | str) -> Keys: ...
@overload
def fold_in(keys: None, data: Array | int | str) -> None: ...
def fold_in(keys: Keys | None, data: Array | int | str) -> Keys | None:
    """Returns each row's key for another purpose: a number, such as that of a layer, or a name. None stays None."""
    if keys is None:
        return None
    if isinstance(data, str):
        data = streams.number(data)
    return jax.vmap(jax.random.fold_in, (0, None))(keys, data)
