"""Pooling: how the tokens of a Vision Transformer become the features that the head reads."""

from collections.abc import Callable
from typing import Any, NamedTuple

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


Tokens = Float[Array, "batch tokens width"]
Patches = Float[Array, "batch patches width"]


class Pooling(NamedTuple):
    """One kind of pooling.

    Attributes:
        apply: returns the features (batch, features) from the tokens, the patches among them, and the module or None.
        module: the class of the module with its parameters; None if it has none.
        widths: the number of features, in widths of the model.
    """

    apply: Callable[[Tokens, Patches, Any], Float[Array, "batch features"]]
    module: type[AttentionPool] | None = None
    widths: int = 1


def _class_token(tokens: Tokens, patches: Patches, module: None) -> Float[Array, "batch features"]:
    return tokens[:, 0].astype(jnp.float32)


def _average(tokens: Tokens, patches: Patches, module: None) -> Float[Array, "batch features"]:
    return patches.astype(jnp.float32).mean(axis=1)


def _attention(tokens: Tokens, patches: Patches, module: AttentionPool) -> Float[Array, "batch features"]:
    return module(patches).astype(jnp.float32)


def _both(tokens: Tokens, patches: Patches, module: None) -> Float[Array, "batch features"]:
    return jnp.concatenate([_class_token(tokens, patches, None), _average(tokens, patches, None)], axis=-1)


# The kinds by the name that `arch.pool` gives.
POOLS: dict[str, Pooling] = {
    "tok": Pooling(_class_token),
    "gap": Pooling(_average),
    "map": Pooling(_attention, AttentionPool),
    "tok+gap": Pooling(_both, widths=2),
}
