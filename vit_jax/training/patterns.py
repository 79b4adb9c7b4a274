"""Turns pairs (pattern, factor) of a config into one factor for each parameter.

A pattern is searched in the published names (see checkpoints/names.py), which name each layer of a stack. The factor
of a parameter is a number, or, if the layers of a stacked parameter have different factors, an array of them with the
shape (depth, 1, …), which broadcasts against the parameter.
"""

import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.checkpoints import names
from vit_jax.errors import UserError
from vit_jax.models.functional import Params, flatten, unflatten

Factor = float | np.ndarray


def factors(params: Params, patterns: Sequence[tuple[str, float]], key: str) -> dict[str, Factor]:
    """Returns the factor of each parameter, by the parameter's path in the model.

    The factor is that of the first pattern that is found in the parameter's published name, or 1 if none is found.

    Args:
        params: all the parameters; their shapes (`jax.ShapeDtypeStruct`) are enough.
        patterns: pairs of a regular expression and its factor.
        key: the key in `config.optimizer` that holds the patterns, for error messages.

    Raises:
        UserError: a pattern is not a regular expression, or it is not the first match of any parameter.
    """
    found: dict[str, Factor] = {}
    matched: set[str] = set()

    def factor(name: str) -> float:
        for pattern, value in patterns:
            if _compiled(pattern, key).search(name):
                matched.add(pattern)
                return value
        return 1.0

    for path, leaf in flatten(params).items():
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
    """Returns `tree` with each leaf multiplied by its factor in `found`.

    A factor of 0 gives 0 even if the leaf holds NaN or infinity.
    """
    return unflatten({path: _times(leaf, found[path]) for path, leaf in flatten(tree).items()})


def _times(x: jax.Array, factor: Factor) -> jax.Array:
    if isinstance(factor, float) and factor == 1:
        return x
    return x * factor if np.all(factor) else jnp.where(np.equal(factor, 0), 0, x * factor)


def _compiled(pattern: str, key: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"config.optimizer.{key} has {pattern!r}, which is no regular expression: {error}") from error
