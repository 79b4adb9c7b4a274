"""What all families' models share: images in, features, a head."""

import math
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vit_jax.errors import UserError
from vit_jax.models import summary
from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.randomness import Keys, row_keys


class Model(nnx.Module):
    """Holds parameters alone: randomness comes with the call, and without a key there is none.

    A family adds its layers, `encode` and `pooled`.
    """

    head: nnx.Linear  # where the model has classes

    def __init__(self, arch: Any, preprocessing: Preprocessing | None = None, class_names: tuple[str, ...] = ()):
        self.arch = arch
        self.preprocessing = preprocessing or Preprocessing(arch.image_size)
        self.class_names = class_names

    def __repr__(self) -> str:
        """Returns a summary that fits a screen: architecture, classes, preprocessing, parameters by group."""
        counts: dict[str, int] = {}
        for path, leaf in nnx.to_flat_state(nnx.state(self)):
            counts[str(path[0])] = counts.get(str(path[0]), 0) + math.prod(leaf.shape)
        groups = ", ".join(f"{group} {count:,}" for group, count in counts.items())
        lines = summary.rows(self.arch, self.preprocessing, self.class_names)
        lines.append(("parameters", f"{sum(counts.values()):,}: {groups}"))
        return f"{type(self).__name__}\n" + textwrap.indent(summary.table(lines), "  ")

    def __call__(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch classes"]:
        """Logits in float32; the features where the model has no head.

        Args:
            images: (batch, height, width, 3); integers are pixels, 0 to 255, and floats are in the range of
                `preprocessing`.
            key: one PRNG key, or one for each row, for dropout and stochastic depth; None for neither.

        Raises:
            UserError: images of another shape or type; values that can't be pixels or are far outside of the range,
                where they are at hand (not under `jax.jit`).
        """
        return self.logits(self.encode_for_head(images, key=key))

    def features(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch features"]:
        """What the head sees, float32: (batch, width), or (batch, pre_logits) with that layer."""
        return self.pooled(self.encode_for_head(images, key=key))

    def encode(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch tokens width"]:
        """Tokens after the final norm, special ones first."""
        raise NotImplementedError

    def encode_for_head(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch tokens width"]:
        """Of what `encode` returns at least the tokens, the first ones, that the head reads."""
        return self.encode(images, key=key)

    def pooled(self, tokens: Float[Array, "batch tokens width"]) -> Float[Array, "batch features"]:
        """The features that the head sees, float32, from what `encode` returns."""
        return tokens.astype(jnp.float32).mean(axis=1)

    def logits(self, tokens: Float[Array, "batch tokens width"]) -> Float[Array, "batch classes"]:
        """The head's output from what `encode` returns, float32; the features where there is no head."""
        features = self.pooled(tokens)
        return self.head(features) if self.arch.num_classes else features


def head(arch: Architecture, features: int, rngs: nnx.Rngs) -> nnx.Linear:
    """A dense layer that starts from zero, its bias from `head_bias`."""
    return nnx.Linear(
        features,
        arch.num_classes,
        kernel_init=nnx.initializers.zeros,
        bias_init=nnx.initializers.constant(arch.head_bias),
        rngs=rngs,
    )


def keys_of_rows(key: Any, batch: int) -> Keys | None:
    """Returns a key a row, of one key or of as many; None of None.

    Args:
        key: of `jax.random.key`, or of `jax.random.PRNGKey`, which gives the same numbers.
        batch: how many rows there are.

    Raises:
        UserError: `key` is no key, or the keys are not as many as the rows.
    """
    if key is None:
        return None
    kind, shape = getattr(key, "dtype", None), getattr(key, "shape", ())
    if kind == jnp.uint32 and shape[-1:] == (2,):
        key = jax.random.wrap_key_data(jnp.asarray(key))
    elif kind is None or not jnp.issubdtype(kind, jax.dtypes.prng_key):
        raise UserError(f"key is {key!r}; give a key such as jax.random.key(0), or leave it out for no dropout")
    if key.ndim == 0:
        return row_keys(key, batch)
    if key.shape != (batch,):
        raise UserError(f"there are keys of shape {key.shape} for {batch} images; give one key, or one for each image")
    return key
