"""Stacks: equal modules as one whose parameters have a leading axis, scanned or unrolled, with a named remat policy."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from vit_jax import sharding

M = TypeVar("M", bound=nnx.Module)

_POLICIES = jax.checkpoint_policies

# What the backward pass keeps of a module: everything, the results of matrix products, these in the host's memory, or
# only its input. Convolutions are no matrix products, so that dots and offload are full for a ResNet.
REMAT: dict[str, Callable[..., Any]] = {
    "none": lambda function: function,
    "dots": functools.partial(jax.checkpoint, policy=_POLICIES.dots_with_no_batch_dims_saveable),
    "offload": functools.partial(
        jax.checkpoint, policy=_POLICIES.offload_dot_with_no_batch_dims("device", "pinned_host")
    ),
    "full": jax.checkpoint,
}


def stacked(make: Callable[[nnx.Rngs], M], depth: int, rngs: nnx.Rngs) -> M:
    """`depth` modules, each drawn with a key of its own, as one with a leading axis `depth` on every parameter."""
    return jax.vmap(lambda key: make(nnx.Rngs(key)))(jax.random.split(rngs.params(), depth))


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
    """`x, output = function(module, index, x)` for every module of the stack in turn; the outputs stacked, or None.

    Unrolled, `last` takes the place of `function` for the last module; `x` may have another shape after it.
    """
    function, last = REMAT[remat](function), REMAT[remat](last or function)
    x = sharding.constrain(x)
    if scan:

        def body(x, item):
            module, index = item
            x, output = function(module, index, x)
            return sharding.constrain(x), output

        return jax.lax.scan(body, x, (stack, jnp.arange(depth)))
    leaves, structure = jax.tree.flatten(stack)
    outputs = []
    for index, layer in enumerate(zip(*(layers(leaf) for leaf in leaves), strict=True)):
        each = last if index == depth - 1 else function
        x, output = each(jax.tree.unflatten(structure, layer), index, x)
        x = sharding.constrain(x)
        outputs.append(output)
    return x, None if outputs[0] is None else jax.tree.map(lambda *o: jnp.stack(o), *outputs)


@jax.custom_vjp
def layers(stacked: Array) -> tuple[Array, ...]:
    """The slices along the leading axis, each read from memory where it is used, and their gradients stacked at once.

    Left alone, the TPU compiler casts a stack whole before it is sliced, and adds up as many padded stacks as there are
    slices for its gradient.
    """
    return tuple(jax.lax.optimization_barrier(stacked[index]) for index in range(len(stacked)))


layers.defvjp(lambda stacked: (layers(stacked), None), lambda _, gradients: (jnp.stack(gradients),))
