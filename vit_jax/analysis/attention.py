"""Measures of attention weights: distance, entropy and rollout. They are pure functions that JAX can trace."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vit_jax.models.architecture import VitArchitecture

Weights = Float[Array, "batch heads tokens tokens"]


def patch_distances(grid: tuple[int, int], stride: tuple[int, int]) -> Float[np.ndarray, "patches patches"]:
    """Returns the distance between the centres of each pair of patches in pixels, float32; patches are in raster order.

    Args:
        grid: the number of patches along (height, width).
        stride: the distance from one patch to the next along (height, width), in pixels.
    """
    centres = np.mgrid[: grid[0], : grid[1]].reshape(2, -1) * np.reshape(stride, (2, 1))  # (2, patches)
    return np.linalg.norm(centres[:, :, None] - centres[:, None], axis=0).astype(np.float32)


def mean_distance(
    weights: Weights, specials: int, distances: Float[Array | np.ndarray, "patches patches"]
) -> Float[Array, "batch heads"]:
    """Returns the mean attention distance of each head in pixels (2010.11929, Figures 7 and 11).

    It is the distance between the query's patch and the patches that it attends to, weighted by attention and averaged
    over all queries. Special tokens are left out, and the weights of the patches are divided by their sum. A query that
    attends to special tokens alone is left out too; if all queries of a head do, its distance is NaN.

    Args:
        weights: attention weights, special tokens first.
        specials: the number of special tokens.
        distances: the distance between each pair of patches, as `patch_distances` returns it.
    """
    patches = weights[..., specials:, specials:]
    total = patches.sum(axis=-1)  # (batch, heads, queries)
    each = (patches * distances).sum(axis=-1) / jnp.where(total > 0, total, 1)
    return each.sum(axis=-1) / (total > 0).sum(axis=-1)


def entropy(weights: Weights) -> Float[Array, "batch heads"]:
    """Returns the entropy of the attention weights of each head in nats, averaged over all queries.

    It is 0 if every token attends to one token, and log(tokens) if every token attends to all tokens equally.
    """
    return jax.scipy.special.entr(weights).sum(axis=-1).mean(axis=-1)


def roll(product: Float[Array, "batch tokens tokens"], weights: Weights) -> Float[Array, "batch tokens tokens"]:
    """Returns the product of attention rollout after one more layer (2005.00928; 2010.11929, Figure 6).

    The layer's matrix is the mean of the heads and the identity, which stands for the residual connection, in equal
    parts, with its rows divided by their sums. It is multiplied from the left.

    Args:
        product: the product of the layers below; the identity before the first layer.
        weights: the layer's attention weights.
    """
    mixed = 0.5 * weights.mean(axis=1) + 0.5 * jnp.eye(weights.shape[-1])
    return mixed / mixed.sum(axis=-1, keepdims=True) @ product


def rollout(weights: Float[Array, "depth batch heads tokens tokens"]) -> Float[Array, "batch tokens tokens"]:
    """Returns the attention rollout through all layers: row i tells how much token i draws from each input token.

    Args:
        weights: the attention weights of all layers, as `model.encode_with_attention` returns them.
    """
    product = jnp.broadcast_to(jnp.eye(weights.shape[-1]), (weights.shape[1], *weights.shape[-2:]))
    for layer in weights:
        product = roll(product, layer)
    return product


def seen_by_head(weights: Float[Array, "... tokens tokens"], arch: VitArchitecture) -> Float[Array, "... patches"]:
    """Returns how much the tokens that the head reads attend to each patch.

    With the pooling `tok` this is the row of the class token (of a distilled model the mean with the row of the
    distillation token), with `tok+gap` the mean of that row and the mean row of the patches, and otherwise the mean row
    of the patches. The weights of the layer that pools with `map` are not part of it.
    """
    to_patches = weights[..., arch.specials :]
    read = to_patches[..., : 1 + arch.distilled, :].mean(axis=-2)
    patches = to_patches[..., arch.specials :, :].mean(axis=-2)
    return {"tok": read, "tok+gap": (read + patches) / 2}.get(arch.pool, patches)
