"""Measures a model on images: all numbers that the figures draw, and for each that is missing the reason."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import UInt8

from vit_jax.analysis import filters, positions, tokens
from vit_jax.analysis.observations import grid_of, observations
from vit_jax.errors import UserError
from vit_jax.models.build import abstract, build
from vit_jax.models.class_names import Top, has_classes, top
from vit_jax.models.functional import split

BATCH = 8  # images that are computed at once
SAMPLES = 1024  # the largest number of tokens, of all images together, that the similarity of layers is estimated from
RANDOM = 16  # images for the attention distance at random weights
SHOWN = 256  # photographs that are kept to be drawn
_TOP = 3


Named = tuple[str, UInt8[np.ndarray, "height width_px 3"]]  # an image and its name


class Map(NamedTuple):
    """Attention weights to draw: of one layer, counted from 0, and of one head or the mean of all (None)."""

    layer: int
    head: int | None = None

    @property
    def name(self) -> str:
        """The name of its array and figures, such as `attention_11_3` or `attention_11_mean`."""
        return f"attention_{self.layer}_{'mean' if self.head is None else self.head}"


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The numbers of a model, what they are of, and what is missing.

    Attributes:
        arrays: the numbers by name, as `measure` describes them.
        missing: for each name that does not apply to the model, the reason as a sentence.
        arch: the model's architecture.
        grid: the number of patches along (height, width) of an image; None for a ResNet.
        images: how many images were measured.
        photographs: uint8 (shown, height, width_px, 3), the first of the images as the model sees them.
        names: the name of each photograph.
        tops: for each photograph its most probable classes; () for each if the model has none.
        maps: the attention weights that were asked for.
    """

    arrays: dict[str, np.ndarray]
    missing: dict[str, str]
    arch: Any
    grid: tuple[int, int] | None
    images: int
    photographs: UInt8[np.ndarray, "shown height width_px 3"]
    names: tuple[str, ...]
    tops: tuple[tuple[Top, ...], ...]
    maps: tuple[Map, ...]


def measure(
    model: Any,
    images: UInt8[np.ndarray, "batch height width_px 3"] | Iterable[Named],
    count: int | None = None,
    *,
    maps: Sequence[Map] = (),
    progress: Callable[[int], object] = lambda images: None,
) -> Analysis:
    """Returns the numbers behind the figures of a model. Those that apply are

    - `filters` (components, height, width_px, 3) and `filters_explained_variance` (components,);
    - `posemb_similarity` (rows, columns, rows, columns);
    - `attention_distance` and `attention_distance_random` (depth, heads), in pixels, the latter at random weights;
    - `attention_entropy` (depth, heads), in nats;
    - `rollout` (images, rows, columns), and for each map its `Map.name`, of the same shape;
    - `token_norms` (depth + 1, images, tokens), special tokens first, and `cka` (depth + 1, depth + 1).

    The attention weights of one layer and `BATCH` images are in memory at a time.

    Args:
        model: a model of any family.
        images: at least one image of the model's size, as `vit_jax.read_images` returns them; or pairs of a name and
            the pixels of an image, which are read as they are needed if `count` is given.
        count: how many there are about; it decides how many tokens are taken of each image for `cka`.
        maps: attention weights of single layers and heads to return.
        progress: is called with the number of images that were computed since its last call.

    Raises:
        UserError: there is no image, one is not as the model wants it, or the model has no such layer or head.
    """
    check_maps(model.arch, maps)
    named = _named(images)
    if count is None:
        named = list(named)
        count = max(1, len(named))
    made: dict[str, np.ndarray] = {}
    made["filters"], made["filters_explained_variance"] = filters.principal_components(filters.patch_kernel(model))
    if (table := positions.table(model)) is not None:
        made["posemb_similarity"] = positions.similarity(table, model.arch.grid)
    shown: list[tuple[str, np.ndarray]] = []
    kept = _observed(model, _remembered(_checked(named, model), shown), count, bool(maps), progress)
    if not shown:
        raise UserError("there is no image that can be read to measure the model on; give at least one")
    names, photographs = zip(*shown, strict=True)
    if "rollout" in kept:
        grid = grid_of(model)
        made["rollout"] = kept["rollout"].reshape(-1, *grid)
        for name in ("attention_distance", "attention_entropy"):
            made[name] = kept[name].mean(axis=0)
        random = _observed(_random(model), photographs[:RANDOM], RANDOM, False, progress)
        made["attention_distance_random"] = random["attention_distance"].mean(axis=0)
        for each in maps:
            rows = kept["attention"][:, each.layer]
            made[each.name] = (rows.mean(1) if each.head is None else rows[:, each.head]).reshape(-1, *grid)
    if "token_norms" in kept:
        made["token_norms"] = kept["token_norms"].swapaxes(0, 1)
        samples = kept["samples"].swapaxes(0, 1)
        samples = samples.reshape(len(samples), -1, samples.shape[-1])
        if samples.shape[1] >= tokens.FEWEST:
            drawn = np.random.default_rng(0).permutation(samples.shape[1])[:SAMPLES]
            made["cka"] = tokens.cka(samples[:, drawn])
    return Analysis(
        made,
        _missing(model.arch, made),
        model.arch,
        None if model.arch.family == "bit" else grid_of(model),
        len(kept["outputs"]),
        np.stack(photographs),
        names,
        top(model, kept["outputs"][: len(names)], _TOP) if has_classes(model) else ((),) * len(names),
        tuple(maps),
    )


def check_maps(arch: Any, maps: Sequence[Map]) -> None:
    """Raises UserError if a model of this architecture has no attention, or no such layer or head."""
    if maps and arch.family != "vit":
        raise UserError(f"a model of the family {arch.family} has no attention to draw; leave --attention out")
    for each in maps:
        if not 0 <= each.layer < arch.depth:
            raise UserError(f"the model has no layer {each.layer}; --attention takes layers 0 to {arch.depth - 1}")
        if each.head is not None and not 0 <= each.head < arch.num_heads:
            raise UserError(f"the model has no head {each.head}; --attention takes heads 0 to {arch.num_heads - 1}")


def _named(images: Any) -> Iterable[Named]:
    """Returns images with names, which those of an array do not have. Raises UserError if these are no pixels."""
    if not hasattr(images, "shape"):
        return images
    if images.dtype != np.uint8:
        raise UserError(
            f"images of {images.dtype} are no pixels; give those that vit_jax.read_images returns, of uint8"
        )
    return [(f"image {number}", image) for number, image in enumerate(np.asarray(images), 1)]


def _checked(images: Iterable[Named], model: Any) -> Iterator[Named]:
    """Yields the images. Raises UserError if one has not the model's size."""
    expected = (*model.preprocessing.size, 3)
    for name, image in images:
        if np.shape(image) != expected:
            raise UserError(
                f"{name} has the shape {np.shape(image)}, and the model is measured on images of {expected}; "
                "vit_jax.read_images(paths, model) makes them of files"
            )
        yield name, image


def _remembered(images: Iterable[Named], shown: list[tuple[str, np.ndarray]]) -> Iterator[np.ndarray]:
    """Yields the images, and appends the first ones to `shown` with their names."""
    for name, image in images:
        if len(shown) < SHOWN:
            shown.append((name, image))
        yield image


def _observed(
    model: Any, images: Iterable[np.ndarray], count: int, each_head: bool, progress: Callable[[int], object]
) -> dict[str, np.ndarray]:
    """Returns what `observations` keeps, of all images. Nothing if there are none."""
    bind, params = split(model)
    length = 1 if model.arch.family == "bit" else math.prod(grid_of(model)) + getattr(model.arch, "specials", 0)
    samples, draw = min(length, -(-SAMPLES // count)), np.random.default_rng(0)
    rest = iter(images)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        while batch := list(itertools.islice(rest, BATCH)):
            yield np.stack(batch), np.stack([draw.permutation(length)[:samples] for _ in batch])

    parts = []
    for part in observations(bind, params, batches(), BATCH, each_head=each_head):
        parts.append(part)
        progress(len(part["outputs"]))
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def _random(model: Any) -> Any:
    """Returns a model of the same architecture with random weights."""
    make = functools.partial(build, model.arch, model.preprocessing, model.class_names)
    bind = split(abstract(model.arch, model.preprocessing, model.class_names))[0]
    return bind(jax.jit(lambda: split(make(rngs=nnx.Rngs(0)))[1])())


def _missing(arch: Any, made: dict[str, np.ndarray]) -> dict[str, str]:
    """Returns the reason for each figure that does not apply to the model, in the order of the report."""
    reasons: dict[str, str] = {}
    family = {"bit": "A BiT ResNet", "mixer": "An MLP-Mixer"}.get(arch.family, "")
    if "posemb_similarity" not in made:
        reasons["posemb_similarity"] = (
            f"{family} has no position embeddings."
            if family
            else f"This model has no table of position embeddings (posemb={arch.posemb}, rope={arch.rope:g})."
        )
    no_attention = {} if "rollout" in made else {"rollout": f"{family} has no attention."}
    if no_attention:
        reasons["attention_distance"] = reasons["attention_entropy"] = no_attention["rollout"]
    if "token_norms" not in made:
        reasons["token_norms"] = reasons["cka"] = f"{family} has no layers of tokens."
    elif "cka" not in made:
        reasons["cka"] = f"The estimate needs {tokens.FEWEST} tokens or more."
    return {**reasons, **no_attention}
