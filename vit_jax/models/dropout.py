"""Dropout and stochastic depth, drawn for each row of the batch from its own key."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vit_jax.randomness import Keys


def dropout(x: Array, rate: float, keys: Keys | None) -> Array:
    """Returns `x` (batch, …) with each element zeroed with probability `rate`, and the others divided by 1 - `rate`.

    Returns `x` itself if `keys` is None or the rate is 0.
    """
    if keys is None or rate == 0:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


def path_rate(last: float, layer: Array | int, depth: int) -> Array | float:
    """Returns the rate of stochastic depth of a layer: it grows linearly from 0 in the first to `last` in the last."""
    return last * layer / max(depth - 1, 1)


def drop_path(x: Array, rate: Array | float, keys: Keys | None) -> Array:
    """Returns `x` (batch, …) with each row zeroed with probability `rate`, and the others divided by 1 - `rate`.

    This is stochastic depth (1603.09382). `rate` may be traced. Returns `x` itself if `keys` is None.
    """
    if keys is None:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate))(keys)
    keep = keep.reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(keep, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros_like(x))
