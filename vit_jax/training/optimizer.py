"""The optimizer: what an optax chain does to gradients, up to the learning rate, which the step multiplies in."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vit_jax.config import Optimizer
from vit_jax.models import names
from vit_jax.models.functional import Params
from vit_jax.training import patterns
from vit_jax.training.freeze import Freeze
from vit_jax.training.layers import per_layer

Chain = list[optax.GradientTransformation]


def make_optimizer(settings: Optimizer, params: Params) -> optax.GradientTransformation:
    """Gradients to updates of learning rate 1 (to be multiplied by minus the learning rate), of the trained parameters.

    In order: frozen layers' gradients set to zero, clipping, the named optimizer with decoupled weight decay on
    kernels, factors of the learning rate. So the decay is multiplied by the learning rate, as in 2010.11929, Table 3.

    Args:
        settings: the config's section.
        params: all of them, arrays or shapes, for their names; `init` and `update` take the trained ones alone, see
            `Freeze.split`.

    Raises:
        UserError: a pattern that is no regular expression or matches nothing, or nothing is left to learn.
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
    """1904.00962, Algorithm 2: the ratio of a layer's norms, of its weights and of their update, decay included."""
    return [*_adam(settings, decay), per_layer(optax.scale_by_trust_ratio())]


def _lion(settings: Optimizer, decay: Chain) -> Chain:
    """2302.06675, Algorithm 2."""
    return [optax.scale_by_lion(settings.b1, settings.b2, mu_dtype=jnp.dtype(settings.moment_dtype)), *decay]


def _adafactor(settings: Optimizer, decay: Chain) -> Chain:
    """2106.04560, Section 3.3: 1804.04235 with a first moment, a cap on the second's decay, no relative step sizes."""

    def capped(step: Any, power: Any) -> jax.Array:
        return jnp.minimum(settings.b2, 1 - (step + 1.0) ** -power)

    # By optax's default of 128 the kernels of attention (width, heads, head_dim) would not be factored.
    second = optax.scale_by_factored_rms(decay_rate_fn=capped, min_dim_size_to_factor=32)
    first = optax.ema(settings.b1, debias=False, accumulator_dtype=jnp.dtype(settings.moment_dtype))
    return [per_layer(second), first, *decay]


# By `config.optimizer.name`: the part of the chain between clipping and learning rate, with the decay in its place.
OPTIMIZERS: dict[str, Callable[[Optimizer, Chain], Chain]] = {
    "adam": _adam,
    "sgd": _sgd,
    "lamb": _lamb,
    "lion": _lion,
    "adafactor": _adafactor,
}


def _is_kernel(params: Params) -> Any:
    return names.unflatten({path: path.endswith("/kernel") for path in names.flatten(params)})


def _stateless(function: Callable[[Params], Params]) -> optax.GradientTransformation:
    return optax.stateless(lambda updates, params: function(updates))
