"""MLP-Mixer (2105.01601): blocks of two MLPs, one over the tokens and one over the channels, and the final norm."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vit_jax.errors import UserError
from vit_jax.models.architecture import MixerArchitecture
from vit_jax.models.dropout import drop_path, dropout
from vit_jax.models.linear import flattened, layer_norm
from vit_jax.models.stack import run, stacked
from vit_jax.randomness import Keys, fold_in


class MixingMlp(nnx.Module):
    """Two dense layers with a GELU, in its tanh approximation as published, between them; dropout after both.

    Kernels start LeCun-normal and biases zero, unlike the Vision Transformer's, and as in the published code.
    """

    def __init__(self, features: int, mlp_dim: int, *, dropout: float, dtype: str, rngs: nnx.Rngs):
        self.rate = dropout
        self.dense1 = nnx.Linear(features, mlp_dim, dtype=jnp.dtype(dtype), param_dtype=jnp.float32, rngs=rngs)
        self.dense2 = nnx.Linear(mlp_dim, features, dtype=jnp.dtype(dtype), param_dtype=jnp.float32, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch positions features"], keys: Keys | None = None
    ) -> Float[Array, "batch positions features"]:
        x = nnx.gelu(flattened(self.dense1, x), approximate=True)  # (batch, positions, mlp)
        x = dropout(x, self.rate, fold_in(keys, 0))
        return dropout(flattened(self.dense2, x), self.rate, fold_in(keys, 1))


class MixerBlock(nnx.Module):
    """Pre-norm token mixing, then channel mixing, each residual and with stochastic depth."""

    def __init__(self, arch: MixerArchitecture, *, rngs: nnx.Rngs):
        self.arch = arch
        options: dict[str, Any] = {"dropout": arch.dropout, "dtype": arch.dtype, "rngs": rngs}
        self.norm1 = layer_norm(arch.width, arch.dtype, rngs)
        self.token_mixing = MixingMlp(arch.grid[0] * arch.grid[1], arch.tokens_mlp_dim, **options)
        self.norm2 = layer_norm(arch.width, arch.dtype, rngs)
        self.channel_mixing = MixingMlp(arch.width, arch.mlp_dim, **options)

    def __call__(
        self, x: Float[Array, "batch tokens width"], layer: Array | int, keys: Keys | None
    ) -> Float[Array, "batch tokens width"]:
        """`layer` counts from 0; it sets the block's rate of stochastic depth and its randomness."""
        keys = fold_in(keys, layer)
        rate = self.arch.drop_path * layer / max(self.arch.depth - 1, 1)
        path_keys = keys if self.arch.drop_path else None
        y = flattened(self.norm1, x).swapaxes(1, 2)  # (batch, width, tokens)
        y = self.token_mixing(y, fold_in(keys, 0)).swapaxes(1, 2)  # (batch, tokens, width)
        x = x + drop_path(y, rate, fold_in(path_keys, 1))
        y = self.channel_mixing(flattened(self.norm2, x), fold_in(keys, 2))
        return x + drop_path(y, rate, fold_in(path_keys, 3))


class MixerBody(nnx.Module):
    """`depth` blocks as one module whose parameters have a leading axis `depth`, and the final norm."""

    def __init__(self, arch: MixerArchitecture, *, rngs: nnx.Rngs):
        self.arch = arch
        self.blocks = stacked(lambda rngs: MixerBlock(arch, rngs=rngs), arch.depth, rngs)
        self.norm = layer_norm(arch.width, arch.dtype, rngs)

    def __call__(
        self, x: Float[Array, "batch tokens width"], keys: Keys | None = None
    ) -> Float[Array, "batch tokens width"]:
        """Tokens after the final norm; without keys no dropout. Raises UserError for another number of tokens."""
        tokens = self.arch.grid[0] * self.arch.grid[1]
        if x.shape[1] != tokens:
            raise UserError(
                f"a Mixer made for {tokens} patches can't mix {x.shape[1]}; resize the images to its image_size"
            )
        x, _ = run(
            lambda block, layer, x: (block(x, layer, keys), None),
            self.blocks,
            x,
            self.arch.depth,
            scan=self.arch.scan,
            remat=self.arch.remat,
        )
        return flattened(self.norm, x)
