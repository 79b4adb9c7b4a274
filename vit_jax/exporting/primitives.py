"""Traced computations in a form that converters to other formats take: few primitives, weights already computed.

JAX traces a function to a jaxpr, a list of operations. A converter does not know all of JAX's operations, and some only
in their usual forms. Here the same numbers are computed by operations that it knows.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Jaxpr, JaxprEqn, Literal

_HALF = jnp.dtype(jnp.bfloat16)
_CALLS = ("jit", "checkpoint", "remat2", "closed_call", "custom_jvp_call", "custom_vjp_call")
_UNKNOWN = object()  # stands for a value that depends on the images, or on the size of the batch
_KNOWN = object()  # stands for any other value, which is computed before the rest is traced


def simplified(function: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """Returns `function(images)`, computed while JAX traces by operations that converters know.

    - Calls of functions are replaced by what these compute.
    - What does not depend on the images is computed now: standardised kernels, interpolated position embeddings.
    - What does depend on them is computed in float32, also where the function uses bfloat16. Weights stay in bfloat16,
      and are converted where they are used.
    - Products are of matrices or of stacks of matrices, and maxima over windows are of arrays without channels.

    Args:
        function: a function of one array.
        images: its argument, which JAX traces; the size of the batch is symbolic.
    """
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(images.shape, images.dtype))

    def known(consts: Sequence[Any]) -> list[Any]:
        found: list[Any] = []
        _evaluated(closed.jaxpr, consts, [_UNKNOWN], lambda eqn, inputs: _known(eqn, inputs, found))
        return found

    with jax.ensure_compile_time_eval():
        values = iter([np.asarray(each) for each in jax.jit(known)(closed.consts)])
    consts = [_KNOWN] * len(closed.consts)
    return _evaluated(closed.jaxpr, consts, [images], lambda eqn, inputs: _unknown(eqn, inputs, values))[0]


Apply = Callable[[JaxprEqn, list[Any]], Sequence[Any]]


def _evaluated(jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], apply: Apply) -> list[Any]:
    """Returns the outputs of a jaxpr, in which `apply` computes the outputs of each operation that is no call."""
    values: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    found: Sequence[Any]
    for eqn in jaxpr.eqns:
        inputs = [value(atom) for atom in eqn.invars]
        if eqn.primitive.name in _CALLS:
            inner: Any = eqn.params.get("jaxpr") or eqn.params["call_jaxpr"]
            found = _evaluated(getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), inputs, apply)
        else:
            found = apply(eqn, inputs)
        values.update(zip(eqn.outvars, found, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _is_fixed(eqn: JaxprEqn) -> bool:
    """Returns whether the shapes of an operation's outputs do not depend on the size of the batch."""
    return all(isinstance(size, int) for var in eqn.outvars for size in getattr(var.aval, "shape", ()))


def _known(eqn: JaxprEqn, inputs: list[Any], found: list[Any]) -> Sequence[Any]:
    """Computes an operation whose inputs are known; appends to `found` the known inputs of all others."""
    if not _is_fixed(eqn) or any(each is _UNKNOWN for each in inputs):
        found.extend(each for each in inputs if each is not _UNKNOWN)
        return [_UNKNOWN] * len(eqn.outvars)
    outputs = eqn.primitive.bind(*inputs, **eqn.params)
    return outputs if eqn.primitive.multiple_results else [outputs]


def _unknown(eqn: JaxprEqn, inputs: list[Any], values: Iterator[Any]) -> Sequence[Any]:
    """Traces an operation that `_known` did not compute; takes its known inputs from `values`."""
    if _is_fixed(eqn) and not any(isinstance(each, jax.core.Tracer) for each in inputs):
        return [_KNOWN] * len(eqn.outvars)
    inputs = [_widened(each if isinstance(each, jax.core.Tracer) else next(values)) for each in inputs]
    apply = _REWRITTEN.get(eqn.primitive.name, eqn.primitive.bind)
    outputs = apply(*inputs, **{key: _wide(param) for key, param in eqn.params.items()})
    return outputs if eqn.primitive.multiple_results else [outputs]


def _widened(x: Any) -> Any:
    return lax.convert_element_type(x, jnp.float32) if x.dtype == _HALF else x


def _wide(param: Any) -> Any:
    """Returns a parameter of an operation, or float32 if it is the dtype bfloat16."""
    return jnp.dtype(jnp.float32) if isinstance(param, np.dtype) and param == _HALF else param


def _dot_general(x: Any, y: Any, *, dimension_numbers: Any, **params: Any) -> jax.Array:
    """Returns a product of tensors by one of matrices, or of stacks of matrices."""
    (x_summed, y_summed), (x_batch, y_batch) = dimension_numbers
    x_free = [axis for axis in range(x.ndim) if axis not in (*x_batch, *x_summed)]
    y_free = [axis for axis in range(y.ndim) if axis not in (*y_batch, *y_summed)]
    free = (*(x.shape[axis] for axis in (*x_batch, *x_free)), *(y.shape[axis] for axis in y_free))
    count = len(x_batch)
    stack = tuple(range(count))
    dimensions = (((count + 1,), (count,)), (stack, stack))
    x, y = _matrices(x, x_batch, x_free, x_summed), _matrices(y, y_batch, y_summed, y_free)
    return lax.dot_general_p.bind(x, y, dimension_numbers=dimensions, **params).reshape(free)


def _matrices(x: Any, batch: Sequence[int], rows: Sequence[int], columns: Sequence[int]) -> Any:
    """Returns `x` as a stack, with its axes `batch`, of matrices, whose rows and columns are each several axes of it.

    `x` is an array of NumPy, and so is the result then, or a traced one.
    """
    shape = [x.shape[axis] for axis in batch]
    for axes in (rows, columns):
        size: Any = 1  # a product that may be symbolic, which `math.prod` does not keep
        for axis in axes:
            size = size * x.shape[axis]
        shape.append(size)
    return x.transpose(*batch, *rows, *columns).reshape(shape)


def _window_max(x: Any, *, window_dimensions: Any, window_strides: Any, padding: Any, **params: Any) -> jax.Array:
    """Returns the maxima over windows of images (batch, height, width_px, channels), computed for each channel alone.

    `jax2onnx` gives an array of n axes a pooling over n axes, and onnxruntime has none over four.
    """
    batch, height, width_px, channels = x.shape
    x = lax.reduce_window_max_p.bind(
        x.transpose(0, 3, 1, 2).reshape(batch * channels, height, width_px),
        window_dimensions=(1, *window_dimensions[1:3]),
        window_strides=(1, *window_strides[1:3]),
        padding=((0, 0), *padding[1:3]),
        base_dilation=(1, 1, 1),
        window_dilation=(1, 1, 1),
    )
    return x.reshape(batch, channels, *x.shape[1:]).transpose(0, 2, 3, 1)


_REWRITTEN: dict[str, Callable[..., jax.Array]] = {"dot_general": _dot_general, "reduce_window_max": _window_max}
