"""Builds a model from its name or from its architecture."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Key

from vit_jax.models import variants
from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.baselines import BiT, Mixer
from vit_jax.models.functional import Params, split
from vit_jax.models.keys import ParameterKeys
from vit_jax.models.model import Model
from vit_jax.models.vit import VisionTransformer

FAMILIES: dict[str, Any] = {"vit": VisionTransformer, "bit": BiT, "mixer": Mixer}


def create(name: str = "B/16", *, seed: int = 0, **keywords: Any) -> Model:
    """Returns a model with freshly initialised parameters.

    Args:
        name: the name of a variant, such as `B/16`, `R50+B/16`, `BiT-R50x1` or `Mixer-B/16`. See `list_models`.
        seed: the seed of the initial parameters.
        keywords: fields of the family's `Architecture` to set, such as `num_classes`, `image_size`, `pool` or `dtype`.
            A field that is missing or None keeps the variant's value.

    Raises:
        UserError: the variant or a keyword is unknown, or sizes do not fit together.
    """
    return build(variants.named(name, **keywords), rngs=ParameterKeys(jax.random.key(seed)))


def build(
    arch: Architecture,
    preprocessing: Preprocessing | None = None,
    class_names: tuple[str, ...] = (),
    *,
    rngs: nnx.Rngs,
) -> Model:
    """Returns a model of the given architecture with freshly initialised parameters.

    Args:
        arch: the architecture.
        preprocessing: how images become the model's input. None resizes the whole image to `arch.image_size`, with
            values in [-1, 1].
        class_names: the names of the head's outputs, in their order, or () if they have no names.
        rngs: the random streams for the initial parameters.
    """
    return FAMILIES[arch.family](arch, preprocessing, class_names, rngs=rngs)


def abstract(
    arch: Architecture, preprocessing: Preprocessing | None = None, class_names: tuple[str, ...] = ()
) -> Model:
    """Returns the model that `build` makes, with `jax.ShapeDtypeStruct`s instead of arrays as its parameters."""
    bind, shapes = _abstract(arch, preprocessing, class_names)
    return bind(shapes)


def abstract_params(arch: Architecture) -> Params:
    """Returns the parameters of an architecture as a nested dict of `jax.ShapeDtypeStruct`s."""
    return jax.tree.map(lambda shape: shape, _abstract(arch, None, ())[1])  # a copy, which callers may change


def initial_params(arch: Architecture, key: Key[Array, ""]) -> Params:
    """Returns freshly initialised parameters of an architecture; may be traced."""
    return split(build(arch, rngs=ParameterKeys(key)))[1]


@functools.lru_cache(maxsize=64)
def _abstract(
    arch: Architecture, preprocessing: Preprocessing | None, class_names: tuple[str, ...]
) -> tuple[Callable[[Params], Any], Params]:
    """Returns the abstract model as `split` does. One command asks for the same model several times."""
    return split(nnx.eval_shape(lambda: build(arch, preprocessing, class_names, rngs=ParameterKeys(jax.random.key(0)))))
