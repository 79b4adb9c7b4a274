"""Dense layers and norms, as every module here uses them."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from vit_jax import sharding


def flattened(layer: Callable[[Array], Array], x: Array, in_axes: int = 1) -> Array:
    """`layer` on the last `in_axes` axes of `x`, all leading ones flattened.

    XLA's CPU back end is a third faster on two axes than on three; elsewhere it makes no difference, except that tokens
    which are split over devices can't be flattened with the batch.
    """
    if sharding.splits_tokens() or sharding.platform() != "cpu":
        return layer(x)
    lead = x.shape[: x.ndim - in_axes]
    y = layer(x.reshape(-1, *x.shape[x.ndim - in_axes :]))
    return y.reshape(*lead, *y.shape[1:])


def recomputed(function: Callable[..., Array]) -> Callable[..., Array]:
    """`function`, of whose inside the backward pass of a scan keeps nothing but the arguments: for what is cheap.

    Unrolled, the compiler decides by itself.
    """
    return jax.checkpoint(function, prevent_cse=False)


def normed(norm: nnx.LayerNorm, x: Array) -> Array:
    """`norm(x)`, computed again in the backward pass: float32 copies of `x` are most of what a scan would keep."""
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
    """A dense layer, Xavier-uniform over its flattened inputs and outputs, from the last axes to new ones."""
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
    """Over the last axis, with its statistics in float32 whatever the dtype of the computation."""
    return nnx.LayerNorm(features, epsilon=epsilon, dtype=jnp.dtype(dtype), param_dtype=jnp.float32, rngs=rngs)
