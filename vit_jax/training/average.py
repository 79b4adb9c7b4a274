"""The Polyak average: an exponential moving average of the weights.

If `config.optimizer.average` is set, the average is evaluated and exported instead of the weights.
"""

import jax
import jax.numpy as jnp
import optax

from vit_jax.config import Optimizer
from vit_jax.models.functional import Params


def decay_at(settings: Optimizer, step: jax.typing.ArrayLike) -> jax.typing.ArrayLike:
    """Returns the decay of the average at `step`, counted from 0.

    With `average_warmup` the decay is at most (1 + step) / (10 + step). The initial weights then lose their influence
    quickly, even in a run that is not much longer than 1 / (1 - decay) steps.
    """
    if not settings.average_warmup:
        return settings.average
    return jnp.minimum(settings.average, (1 + step) / (10 + step))


def update(settings: Optimizer, step: jax.typing.ArrayLike, params: Params, average: Params) -> Params:
    """Returns the new average, where `step` is the step that has just produced `params`, and `average` the old one."""
    moved: Params = optax.incremental_update(params, average, 1 - decay_at(settings, step))
    return moved
