"""Applies an optimizer to each layer of a stacked parameter separately.

The parameters of equal layers are stacked into one array with a leading axis `depth`. Optimizers that use the norm or
the shape of a parameter (trust ratios, factored moments) would mix the layers if they saw the whole array. Optimizers
that treat each number on its own, such as Adam, give the same result in either case and do not need this module.
"""

from typing import Any

import jax
import optax

from vit_jax.models.functional import Params, flatten, is_stacked, unflatten


def per_layer(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns a transformation that applies `inner` to each layer of a stack, and to other parameters as usual.

    The state is a dict. Its entry "single" is the state of `inner` for the parameters that are not stacked. For each
    depth D there is an entry "stacks_of_D", the state of `inner` for the stacks of D layers, with a leading axis D on
    all its leaves. Inside each entry, the moments of a parameter have the same path as the parameter.
    """

    def init(params: Params) -> dict[str, Any]:
        return {
            group: jax.vmap(inner.init)(part) if depth else inner.init(part)
            for (group, depth), part in _groups(params).items()
        }

    def update(updates: Params, state: dict[str, Any], params: Params) -> tuple[Params, dict[str, Any]]:
        flat, states, values = {}, {}, _groups(params)
        for (group, depth), part in _groups(updates).items():
            run = jax.vmap(inner.update) if depth else inner.update
            part, states[group] = run(part, state[group], values[group, depth])
            flat.update(flatten(part))
        return unflatten(flat), states

    return optax.GradientTransformation(init, update)


def _groups(params: Params) -> dict[tuple[str, int], Params]:
    """Returns the parameters in groups, by (name of the group, depth of the stack); the depth of "single" is 0."""
    groups: dict[tuple[str, int], dict[str, Any]] = {}
    for path, leaf in flatten(params).items():
        depth = leaf.shape[0] if is_stacked(path) else 0
        groups.setdefault((f"stacks_of_{depth}" if depth else "single", depth), {})[path] = leaf
    return {key: unflatten(flat) for key, flat in groups.items()}
