"""Patterns on published names, per layer, become factors of parameters.

A factor is a number for a single parameter, and a vector over the depth for a stacked one whose layers differ.
"""

import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.errors import UserError
from vit_jax.models import names
from vit_jax.models.functional import Params

Factor = float | np.ndarray


def factors(params: Params, patterns: Sequence[tuple[str, float]], key: str) -> dict[str, Factor]:
    """Returns the factor of each parameter by its inner path: that of the first pattern found in its name, else 1.

    Args:
        params: arrays or shapes, for their names.
        patterns: regular expressions and their factors.
        key: what `config.optimizer` calls them, for errors.

    Raises:
        UserError: a pattern that is no regular expression or matches nothing.
    """
    found: dict[str, Factor] = {}
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
    return found


def scaled(tree: Params, found: dict[str, Factor]) -> Params:
    """Returns the leaves times their factors; where a factor is 0 the result is, even of a NaN."""
    return names.unflatten({path: _times(leaf, found[path]) for path, leaf in names.flatten(tree).items()})


def _times(x: jax.Array, factor: Factor) -> jax.Array:
    if isinstance(factor, float) and factor == 1:
        return x
    return x * factor if np.all(factor) else jnp.where(np.equal(factor, 0), 0, x * factor)


def _compiled(pattern: str, key: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"config.optimizer.{key} has {pattern!r}, which is no regular expression: {error}") from error
