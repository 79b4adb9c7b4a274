"""Computes what a model makes of image files, while threads read the next ones."""

import collections
import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, UInt8

from vit_jax import data
from vit_jax.data.read import Read
from vit_jax.errors import UserError
from vit_jax.models.class_names import Top, has_classes, top
from vit_jax.models.model import Model

_IN_FLIGHT = 2  # batches that the device has: one that it computes, and one that waits for it


class Prediction(NamedTuple):
    """What a model makes of an image file."""

    path: str
    error: str | None = None  # why the image can't be read; everything below is then empty
    classes: tuple[Top, ...] = ()  # the most probable ones; empty if the model can't classify
    features: Float[np.ndarray, " features"] | None = None  # of `model.features`, float32
    tokens: Float[np.ndarray, "tokens width"] | None = None  # of `model.encode`, if they are asked for


def predict(
    model: Model, paths: Sequence[str], *, batch_size: int, count: int, tokens: bool = False
) -> Iterator[Prediction]:
    """Yields the prediction for each image file, in order.

    Args:
        model: the model.
        paths: the files.
        batch_size: how many images are computed at once.
        count: how many classes are named, or all of them if the model has fewer.
        tokens: whether the tokens are computed, too.
    """
    size = min(batch_size, len(paths))
    graph, params = nnx.split(model)
    compute = functools.partial(_computed, graph, params, logits=has_classes(model), tokens=tokens)
    finished = functools.partial(_finished, model, count)
    waiting: collections.deque[tuple[list[Read], Any]] = collections.deque()
    with contextlib.closing(data.read_ahead(paths, model.preprocessing, size)) as batches:
        for batch in batches:
            waiting.append((batch, compute(_stacked(batch, size, model.preprocessing.size))))
            if len(waiting) == _IN_FLIGHT:
                yield from finished(*waiting.popleft())
        for each in waiting:
            yield from finished(*each)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("logits", "tokens"))
def _computed(
    graph: nnx.GraphDef,
    params: nnx.State,
    images: UInt8[jax.Array, "batch height width_px 3"],
    *,
    logits: bool,
    tokens: bool,
) -> dict[str, jax.Array]:
    """Returns the features of images, and their logits and tokens if they are wanted.

    It is a function of the module and not of a call, so that a second call does not compile again.
    """
    model = nnx.merge(graph, params)
    encoded = model.encode(images) if tokens else model.encode_for_head(images)
    made = {"features": model.pooled(encoded)}
    if logits:
        made["logits"] = model.logits(encoded)
    if tokens:
        made["tokens"] = encoded.astype(np.float32)
    return made


def _stacked(batch: list[Read], size: int, shape: tuple[int, int]) -> UInt8[np.ndarray, "batch height width_px 3"]:
    """Returns the images of a batch, and zeros for those that can't be read.

    The last batch is filled up with zeros, so that nothing is compiled for it alone.
    """
    images = np.zeros((size, *shape, 3), np.uint8)
    for row, read in enumerate(batch):
        if not isinstance(read.image, UserError):
            images[row] = read.image
    return images


def _finished(model: Model, count: int, batch: list[Read], computed: dict[str, jax.Array]) -> Iterator[Prediction]:
    """Waits for what is computed of a batch, and yields its predictions."""
    arrays = jax.device_get(computed)
    classes = top(model, arrays["logits"], count) if "logits" in arrays else ((),) * len(batch)
    for row, read in enumerate(batch):
        if isinstance(read.image, UserError):
            yield Prediction(read.path, str(read.image))
        else:
            tokens = arrays["tokens"][row] if "tokens" in arrays else None
            yield Prediction(read.path, None, classes[row], arrays["features"][row], tokens)
