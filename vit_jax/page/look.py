"""Computes what the page shows of a photograph: its classes, and the attention of every layer and head."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from vit_jax.analysis import attention
from vit_jax.analysis.measuring import Map
from vit_jax.analysis.observations import grid_of
from vit_jax.errors import UserError
from vit_jax.models.class_names import Top, lacking, top
from vit_jax.models.functional import Params, split
from vit_jax.models.observe import Observer

COUNT = 5  # classes that are shown
SIDE = 448  # pixels of the longer side of a picture

Picture = UInt8[np.ndarray, "height width_px 3"]


class Look(NamedTuple):
    """What a model makes of a photograph.

    Attributes:
        photograph: the photograph as the model sees it.
        classes: the most probable classes; empty if the model can't classify.
        rollout: attention rollout to each patch; None if the model has no attention.
        attention: for every layer and head, how much the tokens that the model's head reads attend to each patch, as
            `analysis.attention.seen_by_head` defines it; None if the model has no attention.
    """

    photograph: Picture
    classes: tuple[Top, ...]
    rollout: Float[np.ndarray, "rows columns"] | None = None
    attention: Float[np.ndarray, "depth heads rows columns"] | None = None


def missing(model: Any) -> dict[str, str]:
    """Returns why a model can't fill a part of the page, "classes" or "attention", as a sentence.

    Raises UserError if it can fill neither.
    """
    reasons = {}
    if lacks := lacking(model):
        reasons["classes"] = f"There are no classes, because this model has {lacks}: fine-tune it to classify."
    if model.arch.family != "vit":
        family = {"bit": "a BiT ResNet", "mixer": "an MLP-Mixer"}[model.arch.family]
        reasons["attention"] = f"There is no map of attention, because {family} has no attention."
    if len(reasons) == 2:
        raise UserError(
            "the model has neither attention nor a head that can classify, so there is nothing to show; take a ViT, or "
            "fine-tune this model with --config.init_from first"
        )
    return reasons


def looker(model: Any) -> Callable[[Picture], Look]:
    """Returns a function that looks at a photograph of the model's size. It is compiled here, so that no user waits.

    The attention weights of one layer are in memory at a time. A look keeps one number for each layer, head and patch:
    0.3 MB for L/16 at 224 pixels.
    """
    bind, params = split(model)
    lacks = missing(model)
    classifies, attends = "classes" not in lacks, "attention" not in lacks

    @jax.jit
    def compute(params: Params, images: Array) -> dict[str, Array]:
        model = bind(params)
        if not attends:
            return {"logits": model(images)}
        seen = model.observe(images, _observer(model.arch))
        return {
            "logits": model.logits(seen.tokens),
            "rollout": attention.seen_by_head(seen.carry, model.arch)[0],
            "attention": seen.outputs[:, 0],
        }

    def look(photograph: Picture) -> Look:
        found = jax.device_get(compute(params, photograph[None]))
        classes = top(model, found["logits"], COUNT)[0] if classifies else ()
        if not attends:
            return Look(photograph, classes)
        grid = grid_of(model)
        maps = (found[name].reshape(*found[name].shape[:-1], *grid) for name in ("rollout", "attention"))
        return Look(photograph, classes, *maps)

    look(np.zeros((*model.preprocessing.size, 3), np.uint8))
    return look


def chosen(look: Look, which: Map) -> Float[np.ndarray, "rows columns"]:
    """Returns the attention of one layer, and of one head or the mean of all. The look must have attention."""
    assert look.attention is not None
    layer = look.attention[which.layer]
    return layer.mean(axis=0) if which.head is None else layer[which.head]


def bars(classes: tuple[Top, ...]) -> dict[str, float]:
    """Returns the probabilities by name. Equal names, which ImageNet has, are told apart by the class's number."""
    names = [each.name for each in classes]
    return {
        each.name if names.count(each.name) == 1 else f"{each.name} ({each.label})": each.probability
        for each in classes
    }


def _observer(arch: Any) -> Observer:
    """Returns an observer that carries the rollout and outputs (batch, heads, patches) of each layer."""

    def start(tokens: Float[Array, "batch tokens width"]) -> Array:
        batch, count = tokens.shape[:2]
        return jnp.broadcast_to(jnp.eye(count), (batch, count, count))

    def each(product: Array, tokens: Array, weights: Any) -> tuple[Array, Array]:
        return attention.roll(product, weights), attention.seen_by_head(weights, arch)

    return Observer(start, each)
