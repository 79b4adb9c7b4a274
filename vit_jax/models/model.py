"""The base class of all models, which turns images into tokens, tokens into features, and features into logits."""

import textwrap
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from vit_jax.errors import UserError
from vit_jax.models import summary, view
from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.functional import flatten, split
from vit_jax.models.observe import Observed, Observer
from vit_jax.randomness import Keys, row_keys

Change = Callable[[Float[Array, "batch patches width"]], Float[Array, "batch patches width"]]


class Model(nnx.Module):
    """The base class of all models.

    A model holds parameters and no random state. Dropout and stochastic depth are active only if a call passes a key.
    A subclass adds the layers and `encode`, and may override `pooled`, `encode_for_head` and `logits`.

    Args:
        arch: the architecture, of the family's subclass of `Architecture`.
        preprocessing: how images become the model's input. None resizes the whole image to `arch.image_size`, with
            values in [-1, 1].
        class_names: the names of the head's outputs, in their order, or () if they have no names.
    """

    head: nnx.Linear  # missing if `arch.num_classes` is 0

    def __init__(self, arch: Any, preprocessing: Preprocessing | None = None, class_names: tuple[str, ...] = ()):
        self.arch = arch
        self.preprocessing = preprocessing or Preprocessing(arch.image_size)
        self.class_names = class_names

    def __repr__(self) -> str:
        """Returns a short summary: architecture, classes, preprocessing, parameters per group, and where they are."""
        return f"{type(self).__name__}\n" + textwrap.indent(summary.table(self._summary()), "  ")

    __str__ = __repr__  # that of Flax prints every field of every module

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the same summary, and below it a tree of the modules that can be unfolded."""
        return view.html(self, self._summary())

    def _summary(self) -> summary.Rows:
        params = flatten(split(self)[1])
        return [*summary.rows(self.arch, self.preprocessing, self.class_names), *summary.parameters(params)]

    def __call__(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch classes"]:
        """Returns the logits, float32, or the features if the model has no head.

        Args:
            images: (batch, height, width, 3). Integers are pixels from 0 to 255. Floats must already be normalised, as
                `preprocessing.normalize` does.
            key: one PRNG key, or one for each image, for dropout and stochastic depth; None for neither.

        Raises:
            UserError: `images` has another shape or type, or `key` is not a key. Outside of `jax.jit` also: integers
                are not pixels, or floats are far outside of the normalised range.
        """
        return self.logits(self.encode_for_head(images, key=key))

    def features(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch features"]:
        """Returns the input of the head for each image, float32.

        It has as many features as a token; twice as many with `pool=tok+gap`; or `arch.pre_logits` if the model has
        that layer. Arguments and errors are those of `__call__`.
        """
        return self.pooled(self.encode_for_head(images, key=key))

    def encode(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch tokens width"]:
        """Returns the tokens after the final norm: special tokens first, then patches in raster order."""
        raise NotImplementedError

    def encode_patches(
        self, images: ArrayLike, change: Change, *, key: Array | None = None
    ) -> Float[Array, "batch patches width"]:
        """Returns the patches' tokens of `encode`, in raster order, after a change of the embedded patches.

        Args:
            images: as in `__call__`.
            change: takes the embedded patches, before position embeddings are added, and returns others of that shape.
            key: as in `__call__`.

        Raises:
            UserError: the model has no patches, as BiT; also as `__call__`.
        """
        raise UserError(f"a model of the family {self.arch.family} has no patches to change; take a ViT")

    def observe(self, images: ArrayLike, observer: Observer) -> Observed:
        """Returns the tokens of `encode` and what the observer made of the blocks, of which it sees one at a time.

        Raises:
            UserError: the model has no blocks of tokens, as BiT; also as `__call__` for images.
        """
        raise UserError(f"a model of the family {self.arch.family} has no blocks of tokens to observe; take a ViT")

    def encode_for_head(self, images: ArrayLike, *, key: Array | None = None) -> Float[Array, "batch tokens width"]:
        """Returns the tokens that the head reads, or more: all tokens of `encode`, or the first few of them.

        A subclass may override this method to skip the computation of tokens that the head does not read.
        """
        return self.encode(images, key=key)

    def pooled(self, tokens: Float[Array, "batch tokens width"]) -> Float[Array, "batch features"]:
        """Returns the head's input, float32, from the tokens that `encode` returns. The default is their mean."""
        return tokens.astype(jnp.float32).mean(axis=1)

    def logits_of_heads(self, tokens: Float[Array, "batch tokens width"]) -> tuple[Float[Array, "batch classes"], ...]:
        """Returns the logits of each head, float32, whose mean `logits` returns; only a distilled model has two."""
        return (self.logits(tokens),)

    def logits(self, tokens: Float[Array, "batch tokens width"]) -> Float[Array, "batch classes"]:
        """Returns the logits, float32, from the tokens of `encode`, or the features if the model has no head."""
        features = self.pooled(tokens)
        return self.head(features) if self.arch.num_classes else features


def head(arch: Architecture, features: int, rngs: nnx.Rngs) -> nnx.Linear:
    """Returns a dense layer from `features` to `arch.num_classes`, with zero weights and the bias `arch.head_bias`."""
    return nnx.Linear(
        features,
        arch.num_classes,
        kernel_init=nnx.initializers.zeros,
        bias_init=nnx.initializers.constant(arch.head_bias),
        rngs=rngs,
    )


def keys_of_rows(key: Any, batch: int) -> Keys | None:
    """Returns one PRNG key for each image of a batch, or None if `key` is None.

    Args:
        key: one key, which is folded with the index of each image, or an array of `batch` keys, which is returned. Keys
            of `jax.random.key` and of `jax.random.PRNGKey` give the same numbers.
        batch: the number of images.

    Raises:
        UserError: `key` is not a PRNG key, or an array of another number of keys.
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
