"""The Polyak average of the weights: what is evaluated and saved where it is on."""

import jax
import jax.numpy as jnp
import optax

from vit_jax.config import Optimizer
from vit_jax.models.functional import Params


def decay_at(settings: Optimizer, step: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
    """Returns the decay of the average in a step, the first being step 0.

    With a warm-up it is at most (1 + step) / (10 + step), so that the initial weights are soon forgotten, in runs that
    are short beside 1 / (1 - decay) too.
    """
    if not settings.average_warmup:
        return settings.average
    return jnp.minimum(settings.average, (1 + step) / (10 + step))


def update(settings: Optimizer, step: jax.typing.ArrayLike, params: Params, average: Params) -> Params:
    """Returns the average after a step, in which `params` were found."""
    moved: Params = optax.incremental_update(params, average, 1 - decay_at(settings, step))
    return moved
