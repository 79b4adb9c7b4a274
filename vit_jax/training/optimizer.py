"""Builds the optimizer as an optax chain, without the learning rate, which the training step applies."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vit_jax.config import Optimizer
from vit_jax.models.functional import Params, flatten, unflatten
from vit_jax.training import patterns
from vit_jax.training.freeze import Freeze
from vit_jax.training.layers import per_layer

Chain = list[optax.GradientTransformation]


def make_optimizer(settings: Optimizer, params: Params) -> optax.GradientTransformation:
    """Returns the transformation from gradients to updates; the caller multiplies these by minus the learning rate.

    The transformation does, in this order:

    1. sets the gradients of frozen layers to zero,
    2. clips the gradients by their global norm,
    3. applies the optimizer `settings.name`, with decoupled weight decay on kernels,
    4. multiplies by the factors of `settings.learning_rate_scale`.

    The weight decay is thus multiplied by the learning rate, as in arXiv:2010.11929, Table 3.

    Args:
        settings: the section `config.optimizer`.
        params: all the parameters, frozen ones too; their shapes are enough. The `init` and `update` of the result take
            only the trained parameters, see `Freeze.split`.

    Raises:
        UserError: a pattern is not a regular expression or finds no parameter, or all the parameters are frozen.
    """
    freeze = Freeze(settings, params)
    scale = patterns.factors(params, settings.learning_rate_scale, "learning_rate_scale")
    chain = [_stateless(freeze.zero)]
    if settings.grad_clip_norm:
        chain.append(optax.clip_by_global_norm(settings.grad_clip_norm))
    decay = [optax.add_decayed_weights(settings.weight_decay, mask=_is_kernel)] if settings.weight_decay else []
    chain += OPTIMIZERS[settings.name](settings, decay)
    both = {path: factor * scale[path] for path, factor in freeze.factors.items()}
    return optax.chain(*chain, _stateless(lambda updates: patterns.scaled(updates, both)))


def _adam(settings: Optimizer, decay: Chain) -> Chain:
    dtype = jnp.dtype(settings.moment_dtype)
    return [optax.scale_by_adam(settings.b1, settings.b2, settings.eps, mu_dtype=dtype), *decay]


def _sgd(settings: Optimizer, decay: Chain) -> Chain:
    return [optax.trace(settings.momentum, accumulator_dtype=jnp.dtype(settings.moment_dtype)), *decay]


def _lamb(settings: Optimizer, decay: Chain) -> Chain:
    """LAMB (arXiv:1904.00962, Algorithm 2): Adam's update with weight decay, scaled by a trust ratio for each layer.

    The trust ratio is the norm of the layer's weights divided by the norm of their update.
    """
    return [*_adam(settings, decay), per_layer(optax.scale_by_trust_ratio())]


def _lion(settings: Optimizer, decay: Chain) -> Chain:
    """Lion (arXiv:2302.06675, Algorithm 2)."""
    return [optax.scale_by_lion(settings.b1, settings.b2, mu_dtype=jnp.dtype(settings.moment_dtype)), *decay]


def _adafactor(settings: Optimizer, decay: Chain) -> Chain:
    """Adafactor (arXiv:1804.04235) as changed in arXiv:2106.04560, Section 3.3.

    The changes: a first moment is kept, the decay of the second moment is at most `b2`, and step sizes are not relative
    to the size of the parameters.
    """

    def capped(step: Any, power: Any) -> jax.Array:
        return jnp.minimum(settings.b2, 1 - (step + 1.0) ** -power)

    # With optax's default of 128, the kernels of attention (width, heads, head_dim) would not be factored.
    second = optax.scale_by_factored_rms(decay_rate_fn=capped, min_dim_size_to_factor=32)
    first = optax.ema(settings.b1, debias=False, accumulator_dtype=jnp.dtype(settings.moment_dtype))
    return [per_layer(second), first, *decay]


# For each `config.optimizer.name`, a function that returns the chain of the update rule. It takes the transformation of
# weight decay (a list of one or none) and puts it where the rule needs it.
OPTIMIZERS: dict[str, Callable[[Optimizer, Chain], Chain]] = {
    "adam": _adam,
    "sgd": _sgd,
    "lamb": _lamb,
    "lion": _lion,
    "adafactor": _adafactor,
}


def _is_kernel(params: Params) -> Any:
    return unflatten({path: path.endswith("/kernel") for path in flatten(params)})


def _stateless(function: Callable[[Params], Params]) -> optax.GradientTransformation:
    return optax.stateless(lambda updates, params: function(updates))
