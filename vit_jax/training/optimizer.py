"""The optimizer: what an optax chain does to gradients, up to the learning rate, which the step multiplies in.

Patterns on published names, per layer, become factors: a number for a single parameter, a vector over the depth for a
stacked one.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vit_jax.config import Optimizer
from vit_jax.errors import UserError
from vit_jax.models import names
from vit_jax.models.functional import Params


def make_optimizer(settings: Optimizer, params: Params) -> optax.GradientTransformation:
    """Gradients to updates of learning rate 1 (to be multiplied by minus the learning rate).

    In order: frozen parameters' gradients set to zero, clipping, Adam or momentum, decoupled weight decay on kernels,
    factors of the learning rate. So the decay is multiplied by the learning rate, as in 2010.11929, Table 3.

    Args:
        settings: the config's section.
        params: arrays or shapes, for their names.

    Raises:
        UserError: a pattern that is no regular expression or matches nothing.
    """
    trained = _factors(params, [(pattern, 0.0) for pattern in settings.freeze], "freeze")
    scale = _factors(params, settings.learning_rate_scale, "learning_rate_scale")
    dtype = jnp.dtype(settings.moment_dtype)
    chain = [_multiply(trained)]
    if settings.grad_clip_norm:
        chain.append(optax.clip_by_global_norm(settings.grad_clip_norm))
    if settings.name == "adam":
        chain.append(optax.scale_by_adam(settings.b1, settings.b2, settings.eps, mu_dtype=dtype))
    else:
        chain.append(optax.trace(settings.momentum, accumulator_dtype=dtype))
    if settings.weight_decay:
        chain.append(optax.add_decayed_weights(settings.weight_decay, mask=_is_kernel))
    return optax.chain(*chain, _multiply(jax.tree.map(lambda a, b: a * b, trained, scale)))


def trained_norm(settings: Optimizer, gradients: Params) -> jax.Array:
    """The global norm of the gradients of all parameters that are not frozen."""
    factors = _factors(gradients, [(pattern, 0.0) for pattern in settings.freeze], "freeze")
    return optax.tree.norm(_scaled(gradients, factors))


def _is_kernel(params: Params) -> Any:
    return names.unflatten({path: path.endswith("/kernel") for path in names.flatten(params)})


def _factors(params: Params, patterns: Any, key: str) -> Params:
    """The factor of each parameter, 1 where nothing matches; of shape (depth, 1, …) where layers differ."""
    found: dict[str, Any] = {}
    matched: set[str] = set()

    def factor(name: str) -> float:
        for pattern, value in patterns:
            if _compiled(pattern, key).search(name):
                matched.add(pattern)
                return value
        return 1.0

    for path, leaf in names.flatten(params).items():
        values = [factor(name) for name in names.layer_names(path, leaf.shape[0] if leaf.ndim else 0)]
        same = len(set(values)) == 1
        found[path] = values[0] if same else np.array(values, np.float32).reshape(-1, *(1,) * (leaf.ndim - 1))
    for pattern, _ in patterns:
        if pattern not in matched:
            raise UserError(
                f"config.optimizer.{key} has the pattern {pattern!r}, which finds no parameter that an earlier one has "
                f"not; names are such as {names.layer_names('encoder/blocks/mlp/dense1/kernel', 1)[0]}"
            )
    return names.unflatten(found)


def _compiled(pattern: str, key: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"config.optimizer.{key} has {pattern!r}, which is no regular expression: {error}") from error


def _multiply(factors: Params) -> optax.GradientTransformation:
    return optax.stateless(lambda updates, params: _scaled(updates, factors))


def _scaled(tree: Params, factors: Params) -> Params:
    multiply: Callable[[Any, Any], Any] = lambda x, f: x if isinstance(f, float) and f == 1 else x * f  # noqa: E731
    return jax.tree.map(multiply, tree, factors)
