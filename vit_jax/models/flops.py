"""Counts the floating-point operations (FLOPs) of a model from its traced computation (its jaxpr).

A multiply-add counts as two operations. Only matrix products and convolutions are counted, as papers do. The body of a
`scan` is counted once for each iteration.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.interpreters import partial_eval

from vit_jax.models.functional import split
from vit_jax.models.model import Model


def forward(model: Model, batch_size: int) -> int:
    """Returns the FLOPs of a forward pass over `batch_size` images of the size `model.arch.image_size`."""
    bind, params = split(model)
    images = jax.ShapeDtypeStruct((1, *model.arch.image_size, 3), np.uint8)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    traced = jax.make_jaxpr(lambda params, images: bind(params)(images))(shapes, images).jaxpr
    # The trace contains attention weights that no output uses. The compiler removes them, so they must not count.
    computed, _ = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))
    return batch_size * count(computed)


def step(model: Model, batch_size: int) -> int:
    """Returns the FLOPs of a training step over `batch_size` images, as three times those of the forward pass.

    The backward pass has twice the products of the forward pass. Recomputation by `remat` is not counted.
    """
    return 3 * forward(model, batch_size)


def count(jaxpr: Any) -> int:
    """Returns the FLOPs of all equations of a jaxpr, including the jaxprs inside them."""
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)
    if name == "conv_general_dilated":
        return _convolution(equation)
    times = params["length"] if name == "scan" else 1
    inner = [getattr(value, "jaxpr", value) for value in params.values()]
    return times * sum(count(jaxpr) for jaxpr in inner if hasattr(jaxpr, "eqns"))


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
