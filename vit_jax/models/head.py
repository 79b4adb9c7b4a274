"""From tokens to features: attention pooling. (Pooling by class token or average needs no module.)"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vit_jax.models.architecture import Architecture
from vit_jax.models.attention import Attention, flattened, layer_norm
from vit_jax.models.encoder import Mlp


class AttentionPool(nnx.Module):
    """Multi-head attention pooling (2106.04560): a learned probe attends to all tokens, then a residual MLP."""

    def __init__(self, arch: Architecture, *, rngs: nnx.Rngs):
        self.probe = nnx.Param(nnx.initializers.xavier_uniform()(rngs.params(), (1, 1, arch.width), jnp.float32))
        # A plain block's parts, without dropout, as in big_vision.
        arch = arch.replace(dropout=0.0, attention_dropout=0.0, qk_norm=False, qkv_bias=True)
        self.attention = Attention(arch, rngs=rngs)
        self.norm = layer_norm(arch.width, arch.dtype, rngs)
        self.mlp = Mlp(arch, rngs=rngs)

    def __call__(self, tokens: Float[Array, "batch tokens width"]) -> Float[Array, "batch width"]:
        probe = jnp.broadcast_to(self.probe[...].astype(tokens.dtype), (tokens.shape[0], 1, tokens.shape[-1]))
        x, _ = self.attention(probe, tokens)
        return (x + self.mlp(flattened(self.norm, x)))[:, 0]
