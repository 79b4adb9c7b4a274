"""Dropout and stochastic depth, drawn for each row of the batch from its own key."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from vit_jax.randomness import Keys


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
