"""Runs a model on images and keeps, of the attention and the tokens of every layer, what the figures need."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from vit_jax.analysis import attention
from vit_jax.models.functional import Params
from vit_jax.models.observe import Observer

Images = UInt8[np.ndarray, "batch height width_px 3"]
Arrays = dict[str, Any]  # by name; the first axis of each is the batch


def observations(
    bind: Callable[[Params], Any],
    params: Params,
    batches: Iterable[tuple[Images, Int[np.ndarray, "batch samples"]]],
    batch_size: int,
    *,
    each_head: bool,
) -> Iterator[Arrays]:
    """Yields what is kept of each batch, as NumPy arrays whose first axis is the image.

    These are

    - `attention_distance`, `attention_entropy` (batch, depth, heads), in pixels and nats;
    - `rollout` (batch, patches), the row that the head reads;
    - `attention` (batch, depth, heads, patches), the same row of the weights of every head, if `each_head`;
    - `token_norms` (batch, depth + 1, tokens), before the first layer and after every layer;
    - `samples` (batch, depth + 1, samples, width), some tokens of every layer;
    - `outputs` (batch, classes), the logits, or the features of a model without a head.

    A Mixer has no attention, and a BiT only `outputs`.

    Args:
        bind, params: the model, as `functional.split` returns it.
        batches: images of the model's size, and the indices of the tokens to keep of each image.
        batch_size: the number of images that are computed at once. A smaller batch is filled up, so that the model is
            compiled once.
        each_head: whether to return `attention`.
    """

    @jax.jit
    def observe(params: Params, images: Array, chosen: Array) -> Arrays:
        model = bind(params)
        if model.arch.family == "bit":
            return {"outputs": model(images)}
        seen = model.observe(images, _observer(model, chosen, each_head))
        kept = {name: jnp.moveaxis(value, 0, 1) for name, value in seen.outputs.items()}
        for name, first in seen.carry["first"].items():
            kept[name] = jnp.concatenate([first[:, None], kept[name]], axis=1)
        if "product" in seen.carry:
            kept["rollout"] = attention.seen_by_head(seen.carry["product"], model.arch)
        return {**kept, "outputs": model.logits(seen.tokens)}

    for images, chosen in batches:
        missing = [(0, batch_size - len(images))]
        filled = (np.pad(x, missing + [(0, 0)] * (x.ndim - 1), mode="edge") for x in (images, chosen))
        yield {name: np.asarray(value)[: len(images)] for name, value in observe(params, *filled).items()}


def grid_of(model: Any) -> tuple[int, int]:
    """Returns the number of patches along (height, width) of an image as the model's preprocessing makes it.

    This is not always the grid of the stored position embeddings: DINOv2 stores those of larger images.
    """
    stride = model.arch.stride if model.arch.family == "vit" else model.arch.patch_size
    return model.preprocessing.size[0] // stride[0], model.preprocessing.size[1] // stride[1]


def _observer(model: Any, chosen: Int[Array, "batch samples"], each_head: bool) -> Observer:
    arch = model.arch

    def of_tokens(tokens: Float[Array, "batch tokens width"]) -> Arrays:
        tokens = tokens.astype(jnp.float32)
        return {
            "token_norms": jnp.linalg.norm(tokens, axis=-1),
            "samples": jnp.take_along_axis(tokens, chosen[..., None], axis=1),
        }

    def start(tokens: Array) -> Any:
        carry: Arrays = {"first": of_tokens(tokens)}
        if arch.family == "vit":
            count = tokens.shape[1]
            carry["product"] = jnp.broadcast_to(jnp.eye(count), (len(tokens), count, count))
        return carry

    def each(carry: Any, tokens: Array, weights: Array | None) -> tuple[Any, Arrays]:
        kept = of_tokens(tokens)
        if weights is not None:
            distances = attention.patch_distances(grid_of(model), arch.stride)
            kept["attention_distance"] = attention.mean_distance(weights, arch.specials, distances)
            kept["attention_entropy"] = attention.entropy(weights)
            if each_head:
                kept["attention"] = attention.seen_by_head(weights, arch)
            carry = {**carry, "product": attention.roll(carry["product"], weights)}
        return carry, kept

    return Observer(start, each)
