"""The encoder: one stacked block, scanned or unrolled over the depth, and the final norm."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from vit_jax.models.architecture import Architecture
from vit_jax.models.attention import Attention, flattened, layer_norm, linear
from vit_jax.models.randomness import Keys, drop_path, dropout, fold_in


class Mlp(nnx.Module):
    """Two dense layers with a GELU, in its tanh approximation as published, between them; dropout after both."""

    def __init__(self, arch: Architecture, *, rngs: nnx.Rngs):
        self.rate = arch.dropout
        self.dense1 = linear(arch.width, arch.mlp_dim, arch.dtype, rngs, bias_std=1e-6)
        self.dense2 = linear(arch.mlp_dim, arch.width, arch.dtype, rngs, bias_std=1e-6)

    def __call__(
        self, x: Float[Array, "batch tokens width"], keys: Keys | None = None
    ) -> Float[Array, "batch tokens width"]:
        x = nnx.gelu(flattened(self.dense1, x), approximate=True)  # (batch, tokens, mlp)
        x = dropout(x, self.rate, fold_in(keys, 0))
        return dropout(flattened(self.dense2, x), self.rate, fold_in(keys, 1))


class Block(nnx.Module):
    """Pre-norm attention and MLP, one after the other or in parallel, each with dropout and stochastic depth."""

    def __init__(self, arch: Architecture, *, rngs: nnx.Rngs):
        self.arch = arch
        self.norm1 = layer_norm(arch.width, arch.dtype, rngs)
        self.attention = Attention(arch, rngs=rngs)
        if not arch.parallel:
            self.norm2 = layer_norm(arch.width, arch.dtype, rngs)
        self.mlp = Mlp(arch, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch tokens width"], layer: Array | int, mask: Array | None, keys: Keys | None
    ) -> tuple[Float[Array, "batch tokens width"], Float[Array, "batch heads tokens tokens"]]:
        """`layer` counts from 0; it sets the block's rate of stochastic depth and its randomness."""
        keys = fold_in(keys, layer)
        rate = self.arch.drop_path * layer / max(self.arch.depth - 1, 1)
        path_keys = keys if self.arch.drop_path else None
        normed = flattened(self.norm1, x)
        y, weights = self.attention(normed, normed, mask=mask, keys=fold_in(keys, 0))
        y = dropout(y, self.arch.dropout, fold_in(keys, 1))
        attended = x + drop_path(y, rate, fold_in(path_keys, 2))
        y = self.mlp(normed if self.arch.parallel else flattened(self.norm2, attended), fold_in(keys, 3))
        return attended + drop_path(y, rate, fold_in(path_keys, 4)), weights


class Encoded(NamedTuple):
    """What an encoder returns."""

    tokens: Float[Array, "batch tokens width"]  # after the final norm
    attention: Float[Array, "depth batch heads tokens tokens"] | None  # when asked for


# What the backward pass keeps of a block: everything, the results of matrix products, or only its input.
REMAT = {
    "none": lambda block: block,
    "dots": lambda block: jax.checkpoint(block, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable),
    "full": jax.checkpoint,
}


class Encoder(nnx.Module):
    """`depth` blocks as one module whose parameters have a leading axis `depth`."""

    def __init__(self, arch: Architecture, *, rngs: nnx.Rngs):
        self.arch = arch
        keys = jax.random.split(rngs.params(), arch.depth)
        self.blocks = jax.vmap(lambda key: Block(arch, rngs=nnx.Rngs(key)))(keys)
        self.norm = layer_norm(arch.width, arch.dtype, rngs)

    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        *,
        mask: Bool[Array, "batch tokens"] | None = None,
        keys: Keys | None = None,
        return_attention: bool = False,
    ) -> Encoded:
        """Tokens whose `mask` is False are attended to by none."""

        def body(x, block_and_layer):
            x, weights = run(*block_and_layer, x)
            return x, weights if return_attention else None

        run = REMAT[self.arch.remat](lambda block, layer, x: block(x, layer, mask, keys))
        if self.arch.scan:
            x, attention = jax.lax.scan(body, x, (self.blocks, jnp.arange(self.arch.depth)))
        else:
            weights = []
            for layer in range(self.arch.depth):
                x, w = body(x, (jax.tree.map(lambda p, i=layer: p[i], self.blocks), layer))
                weights.append(w)
            attention = jnp.stack(weights) if return_attention else None
        return Encoded(flattened(self.norm, x), attention)
