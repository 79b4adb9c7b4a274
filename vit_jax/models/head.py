"""Attention pooling of tokens to features. The other kinds of pooling have no parameters and are in `Model.pooled`."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vit_jax.models.architecture import VitArchitecture
from vit_jax.models.attention import Attention
from vit_jax.models.linear import flattened, layer_norm
from vit_jax.models.mlp import Mlp


class AttentionPool(nnx.Module):
    """Multi-head attention pooling (2106.04560): a learned query attends to the given tokens, then a residual MLP.

    The learned query is called the probe, as in big_vision.
    """

    def __init__(self, arch: VitArchitecture, *, rngs: nnx.Rngs):
        self.probe = nnx.Param(nnx.initializers.xavier_uniform()(rngs.params(), (1, 1, arch.width), jnp.float32))
        # As in big_vision, the attention and the MLP ignore all options of the encoder except `gelu_erf`.
        plain = {"dropout": 0.0, "attention_dropout": 0.0, "qk_norm": False, "qkv_bias": True, "key_bias": True}
        arch = arch.replace(
            **plain, rope=0.0, rope_coordinates="grid", mlp="gelu" if arch.mlp == "swiglu" else arch.mlp
        )
        self.attention = Attention(arch, rngs=rngs)
        self.norm = layer_norm(arch.width, arch.dtype, rngs, arch.norm_eps)
        self.mlp = Mlp(arch.width, arch.mlp_dim, kind=arch.mlp, dtype=arch.dtype, rngs=rngs)

    def __call__(self, tokens: Float[Array, "batch tokens width"]) -> Float[Array, "batch width"]:
        probe = jnp.broadcast_to(self.probe[...].astype(tokens.dtype), (tokens.shape[0], 1, tokens.shape[-1]))
        x, _ = self.attention(probe, tokens)
        return (x + self.mlp(flattened(self.norm, x)))[:, 0]
