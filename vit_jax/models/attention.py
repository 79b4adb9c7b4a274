"""Multi-head attention, which returns its weights as well as its output. The softmax is computed in float32."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from vit_jax import sharding
from vit_jax.models.architecture import VitArchitecture
from vit_jax.models.attend import attend
from vit_jax.models.dropout import dropout
from vit_jax.models.linear import flattened, layer_norm, linear
from vit_jax.models.posemb import Grid, rotate
from vit_jax.randomness import Keys


class Attention(nnx.Module):
    """Multi-head dot-product attention; kernels are (width, heads, head_dim) and (heads, head_dim, width).

    Args:
        arch: the architecture.
        axis: 1 lets a patch attend only to patches in its own row, 0 in its own column; None to all tokens.
        rngs: the random streams for the initial parameters.
    """

    def __init__(self, arch: VitArchitecture, *, axis: int | None = None, rngs: nnx.Rngs):
        self.arch, self.axis = arch, axis
        heads = (arch.num_heads, arch.width // arch.num_heads)
        self.query = linear(arch.width, heads, arch.dtype, rngs, bias=arch.qkv_bias)
        self.key = linear(arch.width, heads, arch.dtype, rngs, bias=arch.qkv_bias and arch.key_bias)
        self.value = linear(arch.width, heads, arch.dtype, rngs, bias=arch.qkv_bias)
        self.out = linear(heads, arch.width, arch.dtype, rngs)
        if arch.qk_norm:
            self.query_norm = layer_norm(heads[1], arch.dtype, rngs, arch.norm_eps)
            self.key_norm = layer_norm(heads[1], arch.dtype, rngs, arch.norm_eps)

    def __call__(
        self,
        queries: Float[Array, "batch queries width"],
        tokens: Float[Array, "batch tokens width"],
        *,
        grid: Grid | None = None,
        relative: Callable[[Array, Grid], Array] | None = None,
        mask: Bool[Array, "batch tokens"] | None = None,
        keys: Keys | None = None,
    ) -> tuple[Float[Array, "batch queries width"], Float[Array, "batch heads queries tokens"]]:
        """Returns the output, and the attention weights in float32, before dropout.

        Args:
            queries: the tokens that attend.
            tokens: the tokens that are attended to.
            grid: the number of patches along (height, width). Rotary and relative positions and `axis` need it.
            relative: a function of queries (batch, tokens, heads, head_dim) and the grid that returns what relative
                positions add to the scores.
            mask: True for the tokens that may be attended to; None for all.
            keys: one PRNG key per image, for dropout of the weights; None for no dropout.
        """
        q, k, v = flattened(self.query, queries), flattened(self.key, tokens), flattened(self.value, tokens)
        if self.arch.qk_norm:
            q, k = self.query_norm(q), self.key_norm(k)
        if self.arch.rope and grid:
            arch = self.arch
            q, k = (rotate(x, grid, arch.specials, arch.rope, arch.rope_coordinates) for x in (q, k))
        k, v = sharding.whole_sequence(k), sharding.whole_sequence(v)
        q = q * q.shape[-1] ** -0.5
        if self.axis is not None and grid:
            x, weights = self._along_lines(q, k, v, grid, mask, keys)
            return flattened(self.out, x, in_axes=2), weights
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32)
        if relative is not None and grid:
            scores = scores + relative(q, grid)
        weights, dropped = self._softmax(scores, None if mask is None else mask[:, None, None], v.dtype, keys)
        if relative is None and mask is None and (keys is None or not self.arch.attention_dropout):
            x = attend(q, k, v)  # the compiler removes the weights above if the caller does not use them
        else:
            x = jnp.einsum("bhqk,bkhd->bqhd", dropped, v)
        return flattened(self.out, x, in_axes=2), weights

    def _softmax(self, scores: Array, mask: Array | None, dtype: Any, keys: Keys | None) -> tuple[Array, Array]:
        """Returns the weights in float32, and the weights in `dtype` after dropout."""
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(scores)
        return weights, dropout(weights.astype(dtype), self.arch.attention_dropout, keys)

    def _along_lines(
        self, q: Array, k: Array, v: Array, grid: Grid, mask: Array | None, keys: Keys | None
    ) -> tuple[Array, Array]:
        """Returns the result and weights of attention within each row (`axis` 1) or column (`axis` 0) of the grid."""

        def lines(x: Array) -> Array:
            """Returns `x` (batch, tokens, …) as (batch, lines, tokens of a line, …); a line is a row or a column."""
            x = x.reshape(x.shape[0], *grid, *x.shape[2:])
            return x if self.axis == 1 else x.swapaxes(1, 2)

        def tokens(x: Array) -> Array:
            return (x if self.axis == 1 else x.swapaxes(1, 2)).reshape(x.shape[0], grid[0] * grid[1], *x.shape[3:])

        q, k, v = lines(q), lines(k), lines(v)
        scores = jnp.einsum("blqhd,blkhd->bhlqk", q, k).astype(jnp.float32)
        mask = None if mask is None else lines(mask)[:, None, :, None]
        weights, dropped = self._softmax(scores, mask, v.dtype, keys)
        # The weights (batch, heads, tokens, tokens) as in full attention, with zeros between different lines. The
        # compiler removes this computation if the caller does not use them.
        dense = jnp.einsum("bhlqk,lm->blqmkh", weights, jnp.eye(weights.shape[2]))
        dense = tokens(jnp.moveaxis(tokens(dense), 1, -1))  # (batch, key, heads, query)
        return tokens(jnp.einsum("bhlqk,blkhd->blqhd", dropped, v)), dense.transpose(0, 2, 3, 1)
