"""The body of MLP-Mixer (2105.01601): blocks with one MLP over the tokens and one over the channels, then a norm."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vit_jax.errors import UserError
from vit_jax.models.architecture import MixerArchitecture
from vit_jax.models.dropout import drop_path, dropout, path_rate
from vit_jax.models.linear import flattened, layer_norm
from vit_jax.models.observe import Observed, Observer, run_observed
from vit_jax.models.stack import stacked
from vit_jax.randomness import Keys, fold_in


class MixingMlp(nnx.Module):
    """Two dense layers with a GELU between them, and dropout after each.

    The GELU is the tanh approximation, as in the published code. Kernels start LeCun-normal and biases zero, also as
    published; the MLP of the Vision Transformer starts differently.
    """

    def __init__(self, features: int, mlp_dim: int, *, dropout: float, dtype: str, rngs: nnx.Rngs):
        self.rate = dropout
        self.dense1 = nnx.Linear(features, mlp_dim, dtype=jnp.dtype(dtype), param_dtype=jnp.float32, rngs=rngs)
        self.dense2 = nnx.Linear(mlp_dim, features, dtype=jnp.dtype(dtype), param_dtype=jnp.float32, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch positions features"], keys: Keys | None = None
    ) -> Float[Array, "batch positions features"]:
        x = jax.nn.gelu(flattened(self.dense1, x), approximate=True)  # (batch, positions, mlp)
        x = dropout(x, self.rate, fold_in(keys, 0))
        return dropout(flattened(self.dense2, x), self.rate, fold_in(keys, 1))


class MixerBlock(nnx.Module):
    """Token mixing, then channel mixing. Each has a norm before it, a residual connection and stochastic depth."""

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
        """Returns the tokens after this block.

        Args:
            x: the tokens.
            layer: the index of the block, from 0. It sets the rate of stochastic depth, which grows linearly from 0 in
                the first block to `arch.drop_path` in the last.
            keys: one PRNG key per image for dropout and stochastic depth; None for neither.
        """
        keys = fold_in(keys, layer)
        rate = path_rate(self.arch.drop_path, layer, self.arch.depth)
        path_keys = keys if self.arch.drop_path else None
        y = flattened(self.norm1, x).swapaxes(1, 2)  # (batch, width, tokens)
        y = self.token_mixing(y, fold_in(keys, 0)).swapaxes(1, 2)  # (batch, tokens, width)
        x = x + drop_path(y, rate, fold_in(path_keys, 1))
        y = self.channel_mixing(flattened(self.norm2, x), fold_in(keys, 2))
        return x + drop_path(y, rate, fold_in(path_keys, 3))


class MixerBody(nnx.Module):
    """The `depth` blocks and the final norm. The blocks are one module; its parameters have a leading axis `depth`."""

    def __init__(self, arch: MixerArchitecture, *, rngs: nnx.Rngs):
        self.arch = arch
        self.blocks = stacked(lambda rngs: MixerBlock(arch, rngs=rngs), arch.depth, rngs)
        self.norm = layer_norm(arch.width, arch.dtype, rngs)

    def __call__(
        self, x: Float[Array, "batch tokens width"], keys: Keys | None = None, observer: Observer | None = None
    ) -> Observed:
        """Returns the tokens after the final norm, and what the observer made of the blocks.

        Args:
            x: the embedded patches.
            keys: one PRNG key per image for dropout and stochastic depth; None for neither.
            observer: sees the tokens after each block; None for nobody.

        Raises:
            UserError: `x` has another number of tokens than an image of `arch.image_size`.
        """
        tokens = self.arch.grid[0] * self.arch.grid[1]
        if x.shape[1] != tokens:
            raise UserError(
                f"a Mixer made for {tokens} patches can't mix {x.shape[1]}; resize the images to its image_size"
            )
        seen = run_observed(
            lambda block, layer, x: (block(x, layer, keys), None),
            self.blocks,
            x,
            self.arch.depth,
            observer,
            scan=self.arch.scan,
            remat=self.arch.remat,
        )
        return seen._replace(tokens=flattened(self.norm, seen.tokens))
