"""The MLP of a Transformer block."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from vit_jax.models.dropout import dropout
from vit_jax.models.linear import flattened, linear, recomputed
from vit_jax.randomness import Keys, fold_in


class Mlp(nnx.Module):
    """Two dense layers with a nonlinearity between them, and dropout after each.

    The nonlinearity is one of these, as `kind` says:

    - `gelu`: the tanh approximation of GELU, as in the original code.
    - `gelu_erf`: the exact GELU, as in timm and transformers.
    - `swiglu`: the output of the first layer times the SiLU of a third layer, `gate` (2002.05202).
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
        else:
            y = recomputed(lambda y: jax.nn.gelu(y, approximate=self.kind == "gelu"))(y)
        y = dropout(y, self.rate, fold_in(keys, 0))
        return dropout(flattened(self.dense2, y), self.rate, fold_in(keys, 1))
