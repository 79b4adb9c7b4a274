"""Randomness that is a function of the row: one PRNG key for each image of the global batch.

So an image is dropped out the same way whatever the devices, processes or micro-batches that its batch is split over.
"""

from typing import overload

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

Keys = Key[Array, " batch"]


def row_keys(key: Key[Array, ""], batch: int) -> Keys:
    """One key a row: `fold_in(key, row)`."""
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(batch))


@overload
def fold_in(keys: Keys, data: Array | int) -> Keys: ...
@overload
def fold_in(keys: None, data: Array | int) -> None: ...
def fold_in(keys: Keys | None, data: Array | int) -> Keys | None:
    """Every row's key for another purpose, such as a layer or a place in it; None stays None."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, data))(keys)


def dropout(x: Array, rate: float, keys: Keys | None) -> Array:
    """Zeroes elements of `x` (batch, …) with probability `rate`, the rest scaled up; without keys returns `x`."""
    if keys is None or rate == 0:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


def drop_path(x: Array, rate: Array | float, keys: Keys | None) -> Array:
    """Zeroes whole rows of `x` (batch, …) with probability `rate` (may be traced), the rest scaled up (1603.09382)."""
    if keys is None:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate))(keys)
    keep = keep.reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(keep, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros_like(x))
