"""Multi-head attention, with the softmax in float32 and the weights returned when asked for."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from vit_jax.models.architecture import Architecture
from vit_jax.models.randomness import Keys, dropout


def flattened(layer: Callable[[Array], Array], x: Array, in_axes: int = 1) -> Array:
    """`layer` on the last `in_axes` axes of `x`, all leading ones flattened.

    XLA's CPU back end is a third faster on two axes than on three; elsewhere it makes no difference.
    """
    lead = x.shape[: x.ndim - in_axes]
    y = layer(x.reshape(-1, *x.shape[x.ndim - in_axes :]))
    return y.reshape(*lead, *y.shape[1:])


def linear(
    inputs: int | Sequence[int],
    outputs: int | Sequence[int],
    dtype: str,
    rngs: nnx.Rngs,
    *,
    bias: bool = True,
    bias_std: float = 0.0,
) -> nnx.LinearGeneral:
    """A dense layer, Xavier-uniform over its flattened inputs and outputs, from the last axes to new ones."""
    axes = 1 if isinstance(inputs, int) else len(inputs)
    return nnx.LinearGeneral(
        inputs,
        outputs,
        axis=tuple(range(-axes, 0)),
        use_bias=bias,
        dtype=jnp.dtype(dtype),
        param_dtype=jnp.float32,
        kernel_init=nnx.initializers.xavier_uniform(),
        bias_init=nnx.initializers.normal(bias_std) if bias_std else nnx.initializers.zeros,
        rngs=rngs,
    )


def layer_norm(features: int, dtype: str, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Over the last axis, with its statistics in float32 whatever the dtype of the computation."""
    return nnx.LayerNorm(features, epsilon=1e-6, dtype=jnp.dtype(dtype), param_dtype=jnp.float32, rngs=rngs)


class Attention(nnx.Module):
    """Multi-head dot-product attention; kernels are (width, heads, head_dim) and (heads, head_dim, width)."""

    def __init__(self, arch: Architecture, *, rngs: nnx.Rngs):
        self.arch = arch
        heads = (arch.num_heads, arch.width // arch.num_heads)
        self.query = linear(arch.width, heads, arch.dtype, rngs, bias=arch.qkv_bias)
        self.key = linear(arch.width, heads, arch.dtype, rngs, bias=arch.qkv_bias)
        self.value = linear(arch.width, heads, arch.dtype, rngs, bias=arch.qkv_bias)
        self.out = linear(heads, arch.width, arch.dtype, rngs)
        if arch.qk_norm:
            self.query_norm = layer_norm(heads[1], arch.dtype, rngs)
            self.key_norm = layer_norm(heads[1], arch.dtype, rngs)

    def __call__(
        self,
        queries: Float[Array, "batch queries width"],
        tokens: Float[Array, "batch tokens width"],
        *,
        mask: Bool[Array, "batch tokens"] | None = None,
        keys: Keys | None = None,
    ) -> tuple[Float[Array, "batch queries width"], Float[Array, "batch heads queries tokens"]]:
        """Returns the output and the attention weights, before dropout. Tokens whose `mask` is False are not seen."""
        q, k, v = flattened(self.query, queries), flattened(self.key, tokens), flattened(self.value, tokens)
        if self.arch.qk_norm:
            q, k = self.query_norm(q), self.key_norm(k)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k).astype(jnp.float32)
        if mask is not None:
            scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(scores)
        dropped = dropout(weights.astype(v.dtype), self.arch.attention_dropout, keys)
        x = jnp.einsum("bhqk,bkhd->bqhd", dropped, v)
        return flattened(self.out, x, in_axes=2), weights
