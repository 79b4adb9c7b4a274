"""The Vision Transformer (2010.11929): patchify, position embedding, encoder, pooling, head."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from vit_jax.errors import UserError
from vit_jax.models import posemb
from vit_jax.models.architecture import Preprocessing, VitArchitecture
from vit_jax.models.dropout import dropout
from vit_jax.models.encoder import Encoder, Scope
from vit_jax.models.linear import layer_norm, linear
from vit_jax.models.model import Change, Model, head, keys_of_rows
from vit_jax.models.observe import ATTENTION, Observed, Observer
from vit_jax.models.patchify import Patchify
from vit_jax.models.pool import POOLS
from vit_jax.models.resnet import HybridStem
from vit_jax.randomness import fold_in


class Encoded(NamedTuple):
    """The result of `encode_with_attention`."""

    tokens: Float[Array, "batch tokens width"]  # after the final norm, if the encoder has one
    attention: Float[Array, "depth batch heads tokens tokens"]  # the weights of each block, float32


class VisionTransformer(Model):
    """A Transformer over the patches of an image or, in a hybrid, of a ResNet's output.

    Arguments are those of `build`.
    """

    def __init__(
        self,
        arch: VitArchitecture,
        preprocessing: Preprocessing | None = None,
        class_names: tuple[str, ...] = (),
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(arch, preprocessing, class_names)
        channels = 3
        if arch.stages is not None:
            self.stem = HybridStem(
                arch.stages, arch.stem_width, dtype=arch.dtype, scan=arch.scan, remat=arch.remat, rngs=rngs
            )
            channels = self.stem.features
        self.embedding = Patchify(arch.patch_size, channels, arch.width, arch.patchify, arch.dtype, rngs=rngs)
        if arch.class_token:
            self.cls = nnx.Param(jnp.zeros((1, 1, arch.width)))
        if arch.registers:
            self.registers = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, arch.registers, arch.width)))
        if arch.posemb in posemb.TABLES and arch.posemb_at != "layers":
            self.positions = posemb.TABLES[arch.posemb](arch, rngs=rngs)
        if arch.posemb == "relative" and arch.posemb_at != "layers":
            self.relative = posemb.Relative(arch, rngs=rngs)
        self.encoder = Encoder(arch, rngs=rngs)
        pooling = POOLS[arch.pool]
        if pooling.module:
            self.pool = pooling.module(arch, rngs=rngs)
        if arch.norm_after_pool:
            self.fc_norm = layer_norm(arch.width, "float32", rngs, arch.norm_eps)
        features = pooling.widths * arch.width
        if arch.pre_logits:
            self.pre_logits = linear(features, arch.pre_logits, "float32", rngs)
        if arch.num_classes:
            self.head = head(arch, arch.pre_logits or features, rngs)
            if arch.distilled:
                self.head_dist = head(arch, features, rngs)

    def encode(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch tokens width"]:
        """Returns the tokens in the order class token, registers, patches.

        They are taken after the final norm, or before it if the model has `norm_after_pool`.
        """
        return self._encode(images, None, key).tokens

    def encode_for_head(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch tokens width"]:
        """Returns all tokens of `encode`, or only the first ones that the head reads; see `Model.encode_for_head`."""
        return self._encode(images, None, key, only=self.arch.head_tokens).tokens

    def encode_with_attention(
        self,
        images: ArrayLike,
        *,
        mask: Bool[Array, "batch patches"] | None = None,
        key: Array | None = None,
    ) -> Encoded:
        """Returns the tokens of `encode` and the attention weights of every layer, float32.

        Args:
            images: as in `__call__`. For images of another size, the position embeddings are resampled.
            mask: True for the patches that may be attended to, in raster order; None for all.
            key: as in `__call__`.

        Raises:
            UserError: the mask is not of booleans (batch, patches); as `__call__` for images.
        """
        seen = self._encode(images, mask, key, observer=ATTENTION)
        return Encoded(seen.tokens, seen.outputs)

    def encode_patches(
        self, images: ArrayLike, change: Change, *, key: Array | None = None
    ) -> Float[Array, "batch patches width"]:
        return self._encode(images, None, key, change).tokens[:, self.arch.specials :]

    def observe(self, images: ArrayLike, observer: Observer) -> Observed:
        return self._encode(images, None, None, observer=observer)

    def _encode(
        self, images: ArrayLike, mask: Array | None, key: Array | None, change: Change | None = None, **options: Any
    ) -> Observed:
        """Returns the result of the stem and the encoder. `options` are those of `Encoder.__call__`."""
        arch = self.arch
        x = self.preprocessing.normalize(images)
        x = self.embedding(self.stem(x) if arch.stages is not None else x)
        batch, *grid, width = x.shape
        x = x.reshape(batch, -1, width)
        if change is not None:
            x = change(x)
        if mask is not None and (mask.shape != x.shape[:2] or mask.dtype != bool):
            raise UserError(
                f"the mask has the shape {mask.shape} and the type {mask.dtype}; give booleans {x.shape[:2]}, one for "
                "each patch of each image"
            )
        specials = [self.cls] if arch.class_token else []
        specials += [self.registers] if arch.registers else []
        if specials:
            tokens = [jnp.broadcast_to(s[...].astype(x.dtype), (batch, *s.shape[1:])) for s in specials]
            x = jnp.concatenate([*tokens, x], axis=1)
            if mask is not None:
                mask = jnp.concatenate([jnp.ones((batch, arch.specials), bool), mask], axis=1)
        positions = self.positions((grid[0], grid[1])) if hasattr(self, "positions") else None
        if positions is not None and arch.posemb_at == "stem":
            x, positions = x + positions.astype(x.dtype), None
        keys = keys_of_rows(key, batch)
        x = dropout(x, arch.dropout, fold_in(keys, arch.depth))
        scope = Scope((grid[0], grid[1]), positions, getattr(self, "relative", None), mask, keys)
        return self.encoder(x, scope, **options)

    def pooled(self, tokens: Float[Array, "batch tokens width"]) -> Float[Array, "batch features"]:
        """Returns the head's input, float32, from the tokens that `encode` returns, by the pooling of `arch.pool`."""
        patches = tokens[:, self.arch.specials :]
        features = POOLS[self.arch.pool].apply(tokens, patches, getattr(self, "pool", None))
        if self.arch.norm_after_pool:
            features = self.fc_norm(features)
        return jnp.tanh(self.pre_logits(features)) if self.arch.pre_logits else features

    def logits(self, tokens: Float[Array, "batch tokens width"]) -> Float[Array, "batch classes"]:
        """Returns the logits, float32, or the features if there is no head.

        With a second head, which reads the distillation token, the result is the mean of both heads.
        """
        if self.arch.distilled and self.arch.num_classes:
            first, second = self.logits_of_heads(tokens)
            return (first + second) / 2
        return super().logits(tokens)

    def logits_of_heads(self, tokens: Float[Array, "batch tokens width"]) -> tuple[Float[Array, "batch classes"], ...]:
        """Returns the logits of the head and, in a distilled model, of the head that reads the distillation token."""
        first = super().logits(tokens)
        if self.arch.distilled and self.arch.num_classes:
            return first, self.head_dist(tokens[:, 1].astype(jnp.float32))
        return (first,)
