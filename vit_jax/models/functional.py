"""Splits a Flax NNX module into a function and its parameters.

Training code holds the parameters as a plain nested dict of arrays, `{"encoder": {"blocks": …}, …}`, and the model as a
function of them.
"""

from collections.abc import Callable
from typing import Any

from flax import nnx

Params = dict[str, Any]
TASK = "task"  # the key, among a run's parameters, of those that belong to its task and not to its model


def of_model(params: Params) -> Params:
    """Returns the parameters of the model alone, which is what a run leaves as its model."""
    return {key: value for key, value in params.items() if key != TASK}


def is_own(path: str) -> bool:
    """Returns whether the parameter at a path belongs to a run's task and not to its model."""
    return path.startswith(f"{TASK}/")


def split(model: nnx.Module) -> tuple[Callable[[Params], Any], Params]:
    """Returns `(bind, params)`: `bind(params)` gives the module again, also with other parameters.

    `params` holds arrays, or `jax.ShapeDtypeStruct`s if the module is abstract.
    """
    graphdef, state = nnx.split(model)
    return lambda params: nnx.merge(graphdef, nnx.State(params)), nnx.to_pure_dict(state)


def is_stacked(path: str) -> bool:
    """Returns whether the parameter at a path inside the model has a leading axis of layers or ResNet units."""
    return "/blocks/" in path or "/units/" in path


def flatten(params: Params, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of a nested dict by their paths, such as `{"encoder/norm/scale": …}`."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat.update(flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def unflatten(flat: dict[str, Any]) -> Params:
    """Returns a nested dict from its leaves by path. This is the inverse of `flatten`."""
    params: Params = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return params
