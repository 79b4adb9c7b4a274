"""A model from its name or its architecture."""

from typing import Any

import jax
from flax import nnx

from vit_jax.models import variants
from vit_jax.models.architecture import Architecture, Preprocessing
from vit_jax.models.baselines import BiT, Mixer
from vit_jax.models.functional import Params, split
from vit_jax.models.model import Model
from vit_jax.models.vit import VisionTransformer

FAMILIES: dict[str, Any] = {"vit": VisionTransformer, "bit": BiT, "mixer": Mixer}


def create(name: str = "B/16", *, seed: int = 0, **keywords: Any) -> Model:
    """A freshly initialised model.

    Args:
        name: a variant, such as `B/16`, `R50+B/16`, `BiT-R50x1`, `Mixer-B/16`.
        seed: of the initial parameters.
        keywords: fields of the family's `Architecture` that differ from the variant's, such as `num_classes`,
            `image_size`, `pool`, `dtype`; None leaves the variant's value.

    Raises:
        UserError: an unknown variant or keyword, or sizes that do not fit together.
    """
    return build(variants.named(name, **keywords), rngs=nnx.Rngs(seed))


def build(
    arch: Architecture,
    preprocessing: Preprocessing | None = None,
    class_names: tuple[str, ...] = (),
    *,
    rngs: nnx.Rngs,
) -> Model:
    """A freshly initialised model of an architecture."""
    return FAMILIES[arch.family](arch, preprocessing, class_names, rngs=rngs)


def abstract(
    arch: Architecture, preprocessing: Preprocessing | None = None, class_names: tuple[str, ...] = ()
) -> Model:
    """The same with shapes for parameters."""
    return nnx.eval_shape(lambda: build(arch, preprocessing, class_names, rngs=nnx.Rngs(0)))


def abstract_params(arch: Architecture) -> Params:
    """The shapes of an architecture's parameters."""
    return split(nnx.eval_shape(lambda: build(arch, rngs=nnx.Rngs(jax.random.key(0)))))[1]
