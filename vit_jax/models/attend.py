"""Softmax attention with a hand-written backward pass, which makes fewer passes over the scores on a TPU."""

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from vit_jax import sharding

Queries = Float[Array, "batch queries heads head_dim"]
Tokens = Float[Array, "batch tokens heads head_dim"]


@jax.custom_vjp
def attend(queries: Queries, keys: Tokens, values: Tokens) -> Queries:
    """Returns softmax(queries · keysᵀ) · values for each head, in the dtype of `values`.

    The caller scales the queries by 1 / sqrt(head_dim). The softmax is computed in float32; the matrix products take
    operands of the inputs' dtype.

    Autodiff of the plain formula gives the same gradients with more passes over the scores, which are the largest
    arrays of a training step. This version saves passes in two ways. It divides by the sum of the exponentials after
    the product with the values, when there are fewer numbers to divide. And it uses the output, not the scores, to
    compute the weighted mean in the softmax's derivative (FlashAttention, 2205.14135, B.4).
    """
    return _forward(queries, keys, values)[0]


def _forward(q: Queries, k: Tokens, v: Tokens) -> tuple[Queries, tuple[Array, ...]]:
    scores = _laid_out(jnp.einsum("bqhd,bkhd->bhqk", q, k), SCORES, SCORES_SPLIT)
    largest = scores.astype(jnp.float32).max(axis=-1, keepdims=True)
    exps = jnp.exp(scores.astype(jnp.float32) - largest).astype(v.dtype)
    # A column of ones is appended to the values, so that the same product also gives the sum of the exponentials in
    # float32. This makes the product larger by one column in 64. A separate sum would be another pass over the scores,
    # which takes 0.55 million cycles per layer (B/16, 64 images, v5e).
    ones = jnp.ones((*v.shape[:-1], 1), v.dtype)
    sums = jnp.einsum("bhqk,bkhd->bqhd", exps, jnp.concatenate([v, ones], axis=-1), preferred_element_type=jnp.float32)
    # A masked sum, not a slice, extracts the column of sums, because the compiler fuses it with the product. The
    # product can then be stored in `v.dtype` and divided where it is used, which saves 4 % of the cycles of a training
    # step (B/16, 64 images, v5e).
    inverse = 1 / jnp.where(jnp.arange(sums.shape[-1]) == v.shape[-1], sums, 0).sum(axis=-1, keepdims=True)
    sums = _laid_out(sums.astype(v.dtype), OUTPUT, OUTPUT_SPLIT)[..., :-1].astype(jnp.float32)
    x = _laid_out((sums * inverse).astype(v.dtype), OUTPUT, OUTPUT_SPLIT)
    return x, (q, k, v, scores, largest, inverse, x)


def _backward(saved: tuple[Array, ...], gradient: Queries) -> tuple[Queries, Tokens, Tokens]:
    q, k, v, scores, largest, inverse, x = saved
    exps = jnp.exp(scores.astype(jnp.float32) - largest).astype(v.dtype)
    wide = gradient.astype(jnp.float32) * inverse
    mean = (wide * x.astype(jnp.float32)).sum(axis=-1).swapaxes(1, 2)[..., None]  # (batch, heads, queries, 1)
    gradient = wide.astype(v.dtype)
    of_exps = jnp.einsum("bqhd,bkhd->bhqk", gradient, v, preferred_element_type=jnp.float32)
    of_scores = _laid_out((exps.astype(jnp.float32) * (of_exps - mean)).astype(v.dtype), SCORES, SCORES_SPLIT)
    of_q = jnp.einsum("bhqk,bkhd->bqhd", of_scores, k)
    of_k = jnp.einsum("bhqk,bqhd->bkhd", of_scores, q)
    return of_q, of_k, jnp.einsum("bhqk,bqhd->bkhd", exps, gradient)


attend.defvjp(_forward, _backward)

# Memory layouts of the scores (batch, heads, queries, tokens) and of the output (batch, queries, heads, head_dim), and
# the mesh axes that split their axes after the batch. The queries are innermost in both layouts, because a head_dim of
# 64 would fill only half of a TPU's 128 lanes.
SCORES, SCORES_SPLIT = (0, 1, 3, 2), ("tensor", "sequence", None)
OUTPUT, OUTPUT_SPLIT = (0, 2, 3, 1), ("sequence", "tensor", None)
FEW = 8  # with fewer queries the compiler chooses the layout: a single innermost query would take the space of 128


def _laid_out(x: Array, order: tuple[int, ...], split: sharding.Axes) -> Array:
    """Returns `x` with its axes laid out in a TPU's memory in `order`, outermost first; does nothing elsewhere.

    The matrix products before and after need this layout. Without the constraint, the compiler chooses a layout with
    the batch next to last, and copies all scores before and after it: the attention of one layer then takes 7.9 instead
    of 6.3 million cycles (B/16, 64 images, v5e).
    """
    if sharding.platform() != "tpu" or x.shape[order[-1]] < FEW:
        return x
    # `each_part` splits `x` over the devices explicitly: for a layout constraint the compiler would gather all of it.
    return sharding.each_part(lambda part: with_layout_constraint(part, Layout(order)), x, split)
