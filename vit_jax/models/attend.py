"""Softmax attention whose backward pass is written out, so that a TPU passes over the scores less often."""

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from vit_jax import sharding

Queries = Float[Array, "batch queries heads head_dim"]
Tokens = Float[Array, "batch tokens heads head_dim"]


@jax.custom_vjp
def attend(queries: Queries, keys: Tokens, values: Tokens) -> Queries:
    """softmax(queries · keys) · values of each head, the softmax in float32, what is multiplied in the inputs' dtype.

    Autodiff would do the same with more passes over the scores, the largest arrays of a step. Here the division by the
    exponentials' sum comes after the product with the values, where there are fewer numbers to divide, and the mean of
    the weights' gradient, which the softmax's derivative subtracts, is computed from the output (2205.14135, B.4).
    """
    return _forward(queries, keys, values)[0]


def _forward(q: Queries, k: Tokens, v: Tokens) -> tuple[Queries, tuple[Array, ...]]:
    scores = _laid_out(jnp.einsum("bqhd,bkhd->bhqk", q, k), SCORES, SCORES_SPLIT)
    largest = scores.astype(jnp.float32).max(axis=-1, keepdims=True)
    exps = jnp.exp(scores.astype(jnp.float32) - largest).astype(v.dtype)
    # A column of ones beside the values: the same product gives the sum too, in float32, at the cost of one row of 64.
    # A sum of its own is a pass over the scores, 0.55 million cycles a layer (B/16, 64 images, v5e).
    ones = jnp.ones((*v.shape[:-1], 1), v.dtype)
    sums = jnp.einsum("bhqk,bkhd->bqhd", exps, jnp.concatenate([v, ones], axis=-1), preferred_element_type=jnp.float32)
    # A mask takes the sum out of the product, which the compiler fuses with it. So the rest is written as `v.dtype` and
    # divided where it is used: 4 % less of a step's cycles (B/16, 64 images, v5e).
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

# In memory the queries are innermost, both of scores (batch, heads, queries, tokens) and of (batch, queries, heads,
# head_dim), since a head_dim of 64 would half fill the lanes.
SCORES, SCORES_SPLIT = (0, 1, 3, 2), ("tensor", "sequence", None)
OUTPUT, OUTPUT_SPLIT = (0, 2, 3, 1), ("sequence", "tensor", None)
FEW = 8  # fewer queries stay where the compiler puts them: innermost, one would take the room of 128


def _laid_out(x: Array, order: tuple[int, ...], split: sharding.Axes) -> Array:
    """The same, its axes in a TPU's memory in this order, which is the one that the products around it want.

    Left alone, the compiler puts the batch next to last in what comes between two products, and copies all scores to
    and fro: 7.9 instead of 6.3 million cycles for a layer's attention (B/16, 64 images, v5e).
    """
    if sharding.platform() != "tpu" or x.shape[order[-1]] < FEW:
        return x
    # Split by hand: the compiler gathers whole what it is to lay out.
    return sharding.each_part(lambda part: with_layout_constraint(part, Layout(order)), x, split)
