"""The MLP of a block."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vit_jax.models.linear import flattened, linear, recomputed
from vit_jax.models.randomness import Keys, dropout, fold_in


class Mlp(nnx.Module):
    """Two dense layers with a nonlinearity between them, dropout after both.

    `kind` is gelu, by its tanh approximation as published; gelu_erf, exact, as timm and transformers have it; swiglu,
    where the SiLU of a third layer, `gate`, multiplies the first's output (2002.05202).
    """

    def __init__(
        self, features: int, mlp_dim: int, *, kind: str = "gelu", dropout: float = 0.0, dtype: str, rngs: nnx.Rngs
    ):
        self.kind, self.rate = kind, dropout
        self.dense1 = linear(features, mlp_dim, dtype, rngs, bias_std=1e-6)
        if kind == "swiglu":
            self.gate = linear(features, mlp_dim, dtype, rngs, bias_std=1e-6)
        self.dense2 = linear(mlp_dim, features, dtype, rngs, bias_std=1e-6)

    def __call__(
        self, x: Float[Array, "batch tokens features"], keys: Keys | None = None
    ) -> Float[Array, "batch tokens features"]:
        y = flattened(self.dense1, x)  # (batch, tokens, mlp)
        if self.kind == "swiglu":
            y = jax.nn.silu(flattened(self.gate, x)) * y
        elif self.kind == "gelu":
            y = gelu(y)
        else:
            y = recomputed(lambda y: jax.nn.gelu(y, approximate=False))(y)
        y = dropout(y, self.rate, fold_in(keys, 0))
        return dropout(flattened(self.dense2, y), self.rate, fold_in(keys, 1))


@jax.custom_vjp
def gelu(x: Array) -> Array:
    """GELU by its tanh approximation (1606.08415), in float32; the backward pass keeps nothing but `x`.

    Autodiff's derivative takes twice as many operations, with which a TPU's vector units hold up the matrix product
    that they are fused with.
    """
    wide = x.astype(jnp.float32)
    return (wide * _gate(wide)).astype(x.dtype)


def _gate(x: Array) -> Array:
    """About the normal distribution function: (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2."""
    return 0.5 + 0.5 * jnp.tanh(x * (_LINEAR + _CUBIC * (x * x)))


def _backward(x: Array, gradient: Array) -> tuple[Array]:
    wide = x.astype(jnp.float32)
    gate = _gate(wide)
    # tanh' = 1 - tanh² = 4 gate (1 - gate)
    slope = gate + gate * (1 - gate) * (wide * (2 * _LINEAR + 6 * _CUBIC * (wide * wide)))
    return ((gradient.astype(jnp.float32) * slope).astype(x.dtype),)


_LINEAR = math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR

gelu.defvjp(lambda x: (gelu(x), x), _backward)
