"""Layers of a stack as parameters of their own, for transformations of gradients that look at shapes or norms.

The leaves of a stack have a leading axis depth, scanned or not. A trust ratio or a factored moment over all of it would
mix the layers; an optimizer that looks at each number alone, such as Adam, can't tell.
"""

from typing import Any

import jax
import optax

from vit_jax.models import names
from vit_jax.models.functional import Params


def per_layer(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns `inner`, which sees one layer at a time of stacked parameters, and single parameters as they are.

    Its state is one of `inner` for the single parameters and one for all stacks of each depth, whose leaves have the
    depth as their leading axis; each leaf keeps the path of its parameter.
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
            flat.update(names.flatten(part))
        return names.unflatten(flat), states

    return optax.GradientTransformation(init, update)


def _groups(params: Params) -> dict[tuple[str, int], Params]:
    """Returns the parameters by the depth of their stack, 0 for single ones; each group with a name."""
    groups: dict[tuple[str, int], dict[str, Any]] = {}
    for path, leaf in names.flatten(params).items():
        depth = leaf.shape[0] if names.is_stacked(path) else 0
        groups.setdefault((f"stacks_of_{depth}" if depth else "single", depth), {})[path] = leaf
    return {key: names.unflatten(flat) for key, flat in groups.items()}
