"""Counts the floating-point operations (FLOPs) of a model from its traced computation (its jaxpr).

A multiply-add counts as two operations. Only matrix products and convolutions are counted, as papers do. The body of a
`scan` is counted once for each iteration. The backward pass of a product has one product of the same size for each
operand that needs a gradient: a weight needs one if it is trained, and an activation if any weight below it is trained.
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from vit_jax.models.functional import split
from vit_jax.models.model import Model

Call = Callable[[Model, Any], Any]


def forward(model: Model, batch_size: int, call: Call = Model.__call__) -> int:
    """Returns the FLOPs of a forward pass over `batch_size` images of the size `model.arch.image_size`.

    `call` takes the model and images, and computes what is counted: by default the logits.
    """
    return batch_size * count(_traced(model, call)[0])


def step(model: Model, batch_size: int, frozen: Collection[str] = ()) -> int:
    """Returns the FLOPs of a training step over `batch_size` images. Recomputation by `remat` is not counted.

    If all parameters are trained, they are three times those of the forward pass, by convention. If some are frozen,
    the computed products are counted: there are no gradients of the images and of frozen parameters, and there is no
    backward pass below the lowest trained parameter.

    Args:
        model: its parameters may be shapes.
        batch_size: the number of images in a step.
        frozen: the inner paths of parameters that are constants of the step, such as `encoder/blocks/norm1/scale`. A
            stack of which only some layers are frozen is not constant, and is computed as if all of it were trained.
            Paths of parameters that the model does not have, such as those of a task, change nothing.
    """
    jaxpr, paths = _traced(model)
    trained = [path not in frozen for path in paths]
    if all(trained):
        return batch_size * 3 * count(jaxpr)
    return batch_size * _counted(jaxpr, [*trained, *[False] * (len(jaxpr.invars) - len(paths))])[0]


def count(jaxpr: Any) -> int:
    """Returns the FLOPs of all equations of a jaxpr, without a backward pass."""
    return _counted(jaxpr, [False] * len(jaxpr.invars))[0]


def _traced(model: Model, call: Call = Model.__call__) -> tuple[Any, list[str]]:
    """Returns the jaxpr of a forward pass over one image, and the paths of the parameters, its first inputs."""
    bind, params = split(model)
    images = jax.ShapeDtypeStruct((1, *model.arch.image_size, 3), np.uint8)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    traced = jax.make_jaxpr(lambda params, images: call(bind(params), images))(shapes, images).jaxpr
    # The trace contains attention weights that no output uses. The compiler removes them, so they must not count.
    computed, _ = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars), instantiate=True)
    leaves, _ = jax.tree_util.tree_flatten_with_path(shapes)
    return computed, [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def _counted(jaxpr: Any, moving: Sequence[bool]) -> tuple[int, list[bool]]:
    """Returns the FLOPs of a jaxpr and its backward pass, and which outputs depend on a trained parameter.

    `moving` says for each input whether it is trained or depends on a trained parameter. If none does, there is no
    backward pass.
    """
    known = dict(zip(jaxpr.invars, moving, strict=True))
    total = 0
    for equation in jaxpr.eqns:
        inputs = [not hasattr(v, "val") and known.get(v, False) for v in equation.invars]  # literals have a value
        operations, outputs = _equation(equation, inputs)
        total += operations
        for variable, moves in zip(equation.outvars, outputs, strict=True):
            known[variable] = moves and jnp.issubdtype(variable.aval.dtype, jnp.inexact)
    return total, [not hasattr(v, "val") and known.get(v, False) for v in jaxpr.outvars]


def _equation(equation: Any, moving: list[bool]) -> tuple[int, list[bool]]:
    """Returns the FLOPs of one equation and its backward pass, and which outputs depend on a trained parameter."""
    name, params, outputs = equation.primitive.name, equation.params, len(equation.outvars)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        product = 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)
        return product * (1 + sum(moving)), [any(moving)]
    if name == "conv_general_dilated":
        return _convolution(equation) * (1 + sum(moving)), [any(moving)]
    if name == "scan":
        return _scan(params, moving)
    inner = [getattr(value, "jaxpr", value) for value in params.values()]
    inner = [jaxpr for jaxpr in inner if hasattr(jaxpr, "eqns")]
    if len(inner) == 1 and len(inner[0].invars) == len(moving):
        return _counted(inner[0], moving)
    total = sum(_counted(jaxpr, [any(moving)] * len(jaxpr.invars))[0] for jaxpr in inner)
    return total, [any(moving)] * outputs


def _scan(params: Any, moving: list[bool]) -> tuple[int, list[bool]]:
    """Returns the same as `_equation` for a loop.

    All iterations run the same program: a carried value that depends on a trained parameter in one iteration is taken
    to depend on it in all.
    """
    body, constants, carried = params["jaxpr"].jaxpr, params["num_consts"], params["num_carry"]
    while True:
        total, outputs = _counted(body, moving)
        merged = [*moving]
        for i in range(carried):
            merged[constants + i] |= outputs[i]
        if merged == moving:
            return params["length"] * total, outputs
        moving = merged


def _convolution(equation: Any) -> int:
    """Returns the FLOPs of a convolution, without the products with padding."""
    params, (image, kernel) = equation.params, (v.aval.shape for v in equation.invars)
    spec = params["dimension_numbers"]
    outputs, inputs = (kernel[i] for i in spec.rhs_spec[:2])
    pairs = math.prod(
        _pairs(image[i], kernel[k], stride, padding)
        for i, k, stride, padding in zip(
            spec.lhs_spec[2:], spec.rhs_spec[2:], params["window_strides"], params["padding"], strict=True
        )
    )
    return 2 * image[spec.lhs_spec[0]] * outputs * inputs * pairs


def _pairs(size: int, kernel: int, stride: int, padding: Sequence[int]) -> int:
    """Returns the number of products of an input pixel with a weight along one spatial axis."""
    starts = range(-padding[0], size + padding[1] - kernel + 1, stride)
    return sum(min(start + kernel, size) - max(start, 0) for start in starts)
