"""The Vision Transformer (2010.11929): patchify, position embedding, encoder, pooling, head."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from vit_jax.models import posemb, randomness
from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.attention import linear
from vit_jax.models.encoder import Encoded, Encoder
from vit_jax.models.head import AttentionPool
from vit_jax.models.patchify import Patchify


def create(name: str = "B/16", *, seed: int = 0, **keywords: Any) -> "VisionTransformer":
    """A freshly initialised model.

    Args:
        name: a variant, such as `B/16`, `L/32`, `H/14`.
        seed: of the initial parameters.
        keywords: fields of `Architecture` that differ from the variant's, such as `num_classes`, `image_size`,
            `pool`, `dtype`; None leaves the variant's value.

    Raises:
        UserError: an unknown variant or keyword, or sizes that do not fit together.
    """
    return VisionTransformer(Architecture.named(name, **keywords), rngs=nnx.Rngs(seed))


class VisionTransformer(nnx.Module):
    """Holds parameters alone: randomness comes with the call, and without a key there is none."""

    def __init__(
        self,
        arch: Architecture,
        preprocessing: Preprocessing | None = None,
        class_names: tuple[str, ...] = (),
        *,
        rngs: nnx.Rngs,
    ):
        self.arch = arch
        self.preprocessing = preprocessing or Preprocessing(arch.image_size)
        self.class_names = class_names
        self.embedding = Patchify(arch, rngs=rngs)
        if arch.pool == "tok":
            self.cls = nnx.Param(jnp.zeros((1, 1, arch.width)))
        if arch.posemb == "learned":
            tokens = arch.grid[0] * arch.grid[1] + (arch.pool == "tok")
            table = arch.posemb_std * jax.random.normal(rngs.params(), (1, tokens, arch.width))
            self.pos_embedding = nnx.Param(table)
        self.encoder = Encoder(arch, rngs=rngs)
        if arch.pool == "map":
            self.pool = AttentionPool(arch, rngs=rngs)
        if arch.pre_logits:
            self.pre_logits = linear(arch.width, arch.pre_logits, "float32", rngs)
        if arch.num_classes:
            self.head = nnx.Linear(
                arch.pre_logits or arch.width,
                arch.num_classes,
                kernel_init=nnx.initializers.zeros,
                bias_init=nnx.initializers.constant(arch.head_bias),
                rngs=rngs,
            )

    def __call__(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch classes"]:
        """Logits in float32; the features where the model has no head.

        Args:
            images: (batch, height, width, 3), uint8 pixels, or floats in the range of `preprocessing`.
            key: one PRNG key, or one for each row, for dropout and stochastic depth; None for neither.
        """
        features = self.features(images, key=key)
        return self.head(features) if self.arch.num_classes else features

    def features(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch features"]:
        """What the head sees, float32: pooled tokens (batch, width), or (batch, pre_logits) with that layer."""
        tokens = self.encode(images, key=key)
        if self.arch.pool == "tok":
            features = tokens[:, 0]
        elif self.arch.pool == "gap":
            features = tokens.astype(jnp.float32).mean(axis=1)
        else:
            features = self.pool(tokens)
        features = features.astype(jnp.float32)
        return jnp.tanh(self.pre_logits(features)) if self.arch.pre_logits else features

    def encode(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch tokens width"]:
        """Tokens after the final norm, the class token first."""
        return self.encode_with_attention(images, key=key, return_attention=False).tokens

    def encode_with_attention(
        self,
        images: ArrayLike,
        *,
        mask: Bool[Array, "batch patches"] | None = None,
        key: Array | None = None,
        return_attention: bool = True,
    ) -> Encoded:
        """Tokens after the final norm and every layer's attention weights.

        Patches whose `mask` is False are attended to by none. Position embeddings follow the images' size.
        """
        x = self.embedding(self.preprocessing.normalize(images))
        batch, *grid, width = x.shape
        x = x.reshape(batch, -1, width)
        if mask is not None and self.arch.pool == "tok":
            mask = jnp.concatenate([jnp.ones((batch, 1), bool), mask], axis=1)
        if self.arch.pool == "tok":
            x = jnp.concatenate([jnp.broadcast_to(self.cls[...].astype(x.dtype), (batch, 1, width)), x], axis=1)
        if self.arch.posemb != "none":
            x = x + self._positions((grid[0], grid[1])).astype(x.dtype)
        keys = key if key is None or key.ndim else randomness.row_keys(key, batch)
        x = randomness.dropout(x, self.arch.dropout, randomness.fold_in(keys, self.arch.depth))
        return self.encoder(x, mask=mask, keys=keys, return_attention=return_attention)

    def _positions(self, grid: posemb.Grid) -> Float[Array, "1 tokens width"]:
        """The table for a grid of patches; a class token's entry comes first, and is zero in a sin-cos table."""
        if self.arch.posemb == "learned":
            return jnp.asarray(posemb.resample(self.pos_embedding[...], self.arch.grid, grid))
        table = jnp.asarray(posemb.sincos_2d(grid, self.arch.width))
        return jnp.pad(table, ((0, 0), (int(self.arch.pool == "tok"), 0), (0, 0)))
