"""Runs stacks of equal modules.

A stack is one module whose parameters have a leading axis, with one entry for each of the equal modules. It is run by
`jax.lax.scan` or unrolled, with a named policy of rematerialisation (recomputing values in the backward pass).
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from vit_jax import sharding
from vit_jax.models.keys import ParameterKeys

M = TypeVar("M", bound=nnx.Module)

_POLICIES = jax.checkpoint_policies

# What is stored of a module for the backward pass: everything (none), the results of matrix products (dots), the same
# in the host's memory (offload), or only the module's input (full). A convolution is not a matrix product here, so for
# a ResNet dots and offload do the same as full.
REMAT: dict[str, Callable[..., Any]] = {
    "none": lambda function: function,
    "dots": functools.partial(jax.checkpoint, policy=_POLICIES.dots_with_no_batch_dims_saveable),
    "offload": functools.partial(
        jax.checkpoint, policy=_POLICIES.offload_dot_with_no_batch_dims("device", "pinned_host")
    ),
    "full": jax.checkpoint,
}


def stacked(make: Callable[[nnx.Rngs], M], depth: int, rngs: nnx.Rngs) -> M:
    """Returns a stack of `depth` modules: `make(rngs)` for each, with initial keys of its own (`ParameterKeys`)."""
    return jax.vmap(lambda key: make(ParameterKeys(key)))(jax.random.split(rngs.params(), depth))


def run(
    function: Callable[[Any, Any, Any], tuple[Any, Any]],
    stack: nnx.Module,
    x: Any,
    depth: int,
    *,
    scan: bool,
    remat: str,
    last: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None,
) -> tuple[Any, Any]:
    """Calls `x, output = function(module, index, x)` for every module of a stack in turn.

    Args:
        function: takes a module, its index from 0 and `x`, and returns a new `x` and an output, which may be None.
        stack: the stack, as `stacked` returns it.
        x: the input of the first module, an array or a pytree of arrays.
        depth: the number of modules.
        scan: whether to use `jax.lax.scan`. If False, the loop is unrolled.
        remat: what is stored for the backward pass, a key of `REMAT`.
        last: replaces `function` for the last module if the loop is unrolled, and may change the shape of `x`. With
            `scan` it is ignored.

    Returns:
        The last `x`, and the outputs stacked along a new leading axis, or None if they are None.
    """
    function, last = REMAT[remat](function), REMAT[remat](last or function)
    constrain = functools.partial(jax.tree.map, sharding.constrain)
    x = constrain(x)
    if scan:

        def body(x, item):
            module, index = item
            x, output = function(module, index, x)
            return constrain(x), output

        return jax.lax.scan(body, x, (stack, jnp.arange(depth)))
    leaves, structure = jax.tree.flatten(stack)
    outputs = []
    for index, layer in enumerate(zip(*(layers(leaf) for leaf in leaves), strict=True)):
        each = last if index == depth - 1 else function
        x, output = each(jax.tree.unflatten(structure, layer), index, x)
        x = constrain(x)
        outputs.append(output)
    return x, None if outputs[0] is None else jax.tree.map(lambda *o: jnp.stack(o), *outputs)


@jax.custom_vjp
def layers(stacked: Array) -> tuple[Array, ...]:
    """Returns the slices of an array along its leading axis, such that a TPU computes them efficiently.

    Plain indexing would be slow in two ways. The TPU compiler would convert the whole stack to another dtype before it
    slices it; a barrier makes it read each slice where it is used. And autodiff would pad the gradient of each slice to
    the size of the stack and add all of these; here the gradients are stacked once.
    """
    return tuple(jax.lax.optimization_barrier(stacked[index]) for index in range(len(stacked)))


layers.defvjp(lambda stacked: (layers(stacked), None), lambda _, gradients: (jnp.stack(gradients),))
