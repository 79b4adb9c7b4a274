"""Dense layers and layer norms for the models of this package."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from vit_jax import sharding


def flattened(layer: Callable[[Array], Array], x: Array, in_axes: int = 1) -> Array:
    """Returns `layer(x)`. If the devices are CPUs, it is computed with all leading axes of `x` flattened into one.

    XLA's CPU back end runs a layer a third faster on (rows, features) than on (batch, tokens, features). On other
    platforms, and if the mesh splits the tokens over devices, `layer` is called with `x` as it is.

    Args:
        layer: a function of an array that has any number of leading axes and returns as many.
        x: the input.
        in_axes: the number of last axes of `x` that are not leading axes.
    """
    if sharding.splits_tokens() or sharding.platform() != "cpu":
        return layer(x)
    lead = x.shape[: x.ndim - in_axes]
    y = layer(x.reshape(-1, *x.shape[x.ndim - in_axes :]))
    return y.reshape(*lead, *y.shape[1:])


def recomputed(function: Callable[..., Array]) -> Callable[..., Array]:
    """Returns `function` such that the backward pass recomputes its intermediate values instead of storing them.

    Use it for cheap functions only. In a scan, only the arguments of `function` are stored. In unrolled code, the
    compiler may still decide to keep intermediate values.
    """
    return jax.checkpoint(function, prevent_cse=False)


def normed(norm: nnx.LayerNorm, x: Array) -> Array:
    """Returns `norm(x)`, which the backward pass recomputes.

    Without recomputation, the norm's float32 copies of `x` would be most of what a scan stores for its backward pass.
    """
    return recomputed(flattened)(norm, x)


def linear(
    inputs: int | Sequence[int],
    outputs: int | Sequence[int],
    dtype: str,
    rngs: nnx.Rngs,
    *,
    bias: bool = True,
    bias_std: float = 0.0,
) -> nnx.LinearGeneral:
    """Returns a dense layer that maps the last axes, of shape `inputs`, to new axes of shape `outputs`.

    The kernel starts Xavier-uniform, with fans that count the flattened inputs and outputs.

    Args:
        inputs: the size of the last axis, or the sizes of the last axes.
        outputs: the size or sizes of the axes that replace them.
        dtype: the dtype of the computation; parameters are float32.
        rngs: the random streams for the initial parameters.
        bias: whether the layer has a bias.
        bias_std: the standard deviation of the bias's initial values; 0 for zeros.
    """
    axes = 1 if isinstance(inputs, int) else len(inputs)
    return nnx.LinearGeneral(
        inputs,
        outputs,
        axis=tuple(range(-axes, 0)),
        use_bias=bias,
        dtype=jnp.dtype(dtype),
        param_dtype=jnp.float32,
        kernel_init=nnx.initializers.xavier_uniform(),
        bias_init=nnx.initializers.normal(bias_std) if bias_std else nnx.initializers.zeros,
        rngs=rngs,
    )


def layer_norm(features: int, dtype: str, rngs: nnx.Rngs, epsilon: float = 1e-6) -> nnx.LayerNorm:
    """Returns a layer norm over the last axis, of `features` values; `dtype` is that of its output.

    Statistics and parameters are float32 in any case.
    """
    return nnx.LayerNorm(features, epsilon=epsilon, dtype=jnp.dtype(dtype), param_dtype=jnp.float32, rngs=rngs)
