"""LayerNorm whose backward pass is written out, so that a TPU rounds and passes over the tokens less often."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class LayerNorm(nnx.LayerNorm):
    """As Flax has it, over the last axis with scale and bias, statistics in float32; only `__call__` is our own."""

    def __call__(self, x: Float[Array, "*lead features"]) -> Float[Array, "*lead features"]:
        """In the norm's dtype."""
        return _normalized(self.epsilon, self.dtype, x, self.scale[...], self.bias[...])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _normalized(epsilon: float, dtype: Any, x: Array, scale: Array, bias: Array) -> Array:
    """(x - mean) / √(variance + epsilon) · scale + bias in `dtype`.

    Autodiff's gradient is a sum of three, each rounded to the dtype of `x`; here it is summed in float32 and rounded
    once. Nothing but `x` and two numbers a token are kept for it.
    """
    return _forward(epsilon, dtype, x, scale, bias)[0]


def _forward(epsilon: float, dtype: Any, x: Array, scale: Array, bias: Array) -> tuple[Array, tuple[Array, ...]]:
    wide = x.astype(jnp.float32)
    mean = wide.mean(axis=-1, keepdims=True)
    variance = jnp.maximum(0, (wide * wide).mean(axis=-1, keepdims=True) - mean * mean)
    inverse = jax.lax.rsqrt(variance + epsilon)
    return ((wide - mean) * (inverse * scale) + bias).astype(dtype), (x, mean, inverse, scale)


def _backward(epsilon: float, dtype: Any, saved: tuple[Array, ...], gradient: Array) -> tuple[Array, Array, Array]:
    x, mean, inverse, scale = saved
    wide, of_y = x.astype(jnp.float32), gradient.astype(jnp.float32)
    tokens = tuple(range(x.ndim - 1))
    product = of_y * ((wide - mean) * inverse)
    along = (product * scale).mean(axis=-1, keepdims=True)
    across = (of_y * scale).mean(axis=-1, keepdims=True)
    # inverse · (of_y · scale - across - normalized · along), with what is the same for a whole token apart
    slope = inverse * inverse * along
    of_x = of_y * (inverse * scale) + (mean * slope - inverse * across) - wide * slope
    return of_x.astype(x.dtype), product.sum(axis=tokens), of_y.sum(axis=tokens)


_normalized.defvjp(_forward, _backward)
