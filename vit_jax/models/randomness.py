"""Dropout and stochastic depth with one PRNG key for each image (row) of the global batch.

The random numbers for an image then do not depend on how its batch is split over devices, processes or micro-batches.
"""

from typing import overload

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

Keys = Key[Array, " batch"]


def row_keys(key: Key[Array, ""], batch: int) -> Keys:
    """Returns `batch` keys, one for each row: `jax.random.fold_in(key, row)`."""
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(batch))


@overload
def fold_in(keys: Keys, data: Array | int) -> Keys: ...
@overload
def fold_in(keys: None, data: Array | int) -> None: ...
def fold_in(keys: Keys | None, data: Array | int) -> Keys | None:
    """Returns each row's key folded with `data`, the index of a layer or of a place in it; None if `keys` is None."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, data))(keys)


def dropout(x: Array, rate: float, keys: Keys | None) -> Array:
    """Returns `x` (batch, …) with each element zeroed with probability `rate`, and the others divided by 1 - `rate`.

    Returns `x` itself if `keys` is None or the rate is 0.
    """
    if keys is None or rate == 0:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


def drop_path(x: Array, rate: Array | float, keys: Keys | None) -> Array:
    """Returns `x` (batch, …) with each row zeroed with probability `rate`, and the others divided by 1 - `rate`.

    This is stochastic depth (1603.09382). `rate` may be traced. Returns `x` itself if `keys` is None.
    """
    if keys is None:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate))(keys)
    keep = keep.reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(keep, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros_like(x))
