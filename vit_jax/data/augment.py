"""Augmentation on the device, inside the training step, in two stages.

Operations on pixels come first, on float32 images of 0 to 255, before they are normalised. Operations that mix the rows
of a batch come second, on normalised images and what else the batch holds of each row. Both are ordered lists, and each
operation has its own key for each row, derived from its name. A new operation is a function and a line in one of the
lists; it does not change what the others draw.

What happens to a row depends on its own key, and in mixing also on another row of the batch. A sharded batch is
therefore augmented as a whole one is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vit_jax.config import Augmentation
from vit_jax.data.augmentation import boxes, jitter, policies
from vit_jax.data.warp import rotated_and_shifted
from vit_jax.errors import UserError
from vit_jax.randomness import Keys, fold_in

Batch = dict[str, Any]


class PixelOp(NamedTuple):
    """An operation on images (batch, height, width_px, 3), float32, 0 to 255."""

    name: str  # of its keys
    is_on: Callable[[Augmentation], Any]
    apply: Callable[[jax.Array, Keys, Augmentation], jax.Array]


class MixingOp(NamedTuple):
    """A way of mixing each row with another one.

    `own` returns the weight that a row's own pixels have in the mixture, float32 (batch, height or 1, width_px or 1,
    1), from the shape of the images, the keys and the settings. The other row's pixels have the rest.
    """

    name: str  # of its keys
    is_on: Callable[[Augmentation], Any]
    own: Callable[[tuple[int, ...], Keys, Augmentation], jax.Array]


def _flip(images: jax.Array, keys: Keys, settings: Augmentation) -> jax.Array:
    flipped = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def _rotate_and_shift(images: jax.Array, keys: Keys, settings: Augmentation) -> jax.Array:
    most = jnp.array([jnp.deg2rad(settings.rotate_degrees), settings.shift_pixels, settings.shift_pixels], jnp.float32)
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (3,), jnp.float32, -1, 1))(keys) * most
    return rotated_and_shifted(images, *drawn.T)


def _jitter(images: jax.Array, keys: Keys, settings: Augmentation) -> jax.Array:
    return jitter.jittered(images, keys, settings.brightness, settings.contrast, settings.saturation, settings.hue)


def _autoaugment(images: jax.Array, keys: Keys, settings: Augmentation) -> jax.Array:
    return policies.autoaugment(images, keys)


def _randaugment(images: jax.Array, keys: Keys, settings: Augmentation) -> jax.Array:
    return policies.randaugment(images, keys, settings.randaugment_layers, settings.randaugment_magnitude)


def _erase(images: jax.Array, keys: Keys, settings: Augmentation) -> jax.Array:
    area = settings.erasing_area_min, settings.erasing_area_max
    return boxes.erased(images, keys, settings.erasing, area, settings.erasing_aspect_min, settings.erasing_fill)


def _mixup(shape: tuple[int, ...], keys: Keys, settings: Augmentation) -> jax.Array:
    """Returns the weights of mixup (Zhang et al., arXiv:1710.09412); the own one is at least a half."""
    alpha = settings.mixup
    share = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha, dtype=jnp.float32))(keys)
    return jnp.maximum(share, 1 - share)[:, None, None, None]


def _cutmix(shape: tuple[int, ...], keys: Keys, settings: Augmentation) -> jax.Array:
    return boxes.kept(shape, keys, settings.cutmix)


# Erasing comes last, so that nothing else changes the noise that it fills in.
PIXELS: tuple[PixelOp, ...] = (
    PixelOp("flip", lambda s: s.flip, _flip),
    PixelOp("rotate_and_shift", lambda s: s.rotate_degrees or s.shift_pixels, _rotate_and_shift),
    PixelOp("jitter", lambda s: s.brightness or s.contrast or s.saturation or s.hue, _jitter),
    PixelOp("autoaugment", lambda s: s.autoaugment, _autoaugment),
    PixelOp("randaugment", lambda s: s.randaugment_layers, _randaugment),
    PixelOp("erasing", lambda s: s.erasing, _erase),
)
MIXING: tuple[MixingOp, ...] = (
    MixingOp("mixup", lambda s: s.mixup, _mixup),
    MixingOp("cutmix", lambda s: s.cutmix, _cutmix),
)


def changes_pixels(settings: Augmentation) -> bool:
    """Returns whether any operation on pixels is on."""
    return any(op.is_on(settings) for op in PIXELS)


def augment_pixels(images: jax.Array, keys: Keys, settings: Augmentation) -> jax.Array:
    """Returns the images after the operations on pixels that are on, in the order of `PIXELS`.

    Args:
        images: float32 (batch, height, width_px, 3), 0 to 255.
        keys: typed PRNG keys (batch,), one for each row.
        settings: the config's section.
    """
    for op in PIXELS:
        if op.is_on(settings):
            images = op.apply(images, fold_in(keys, op.name), settings)
    return images


def mix(batch: Batch, keys: Keys, settings: Augmentation, repeats: int = 1) -> Batch:
    """Returns the batch with each row mixed with the one `repeats` after it, if an operation of `MIXING` is on.

    If mixup and CutMix are both on, each row goes through one of them; `cutmix_share` is the probability of CutMix.

    Args:
        batch: `image` float32 (batch, height, width_px, 3), normalised; `label` float32 (batch, classes).
        keys: typed PRNG keys (batch,), one for each row.
        settings: the config's section.
        repeats: the config's `data.repeats`, so that a row is not mixed with a repeat of its own image.

    Raises:
        UserError: an operation is on, and the task has no labels.
    """
    on = [op for op in MIXING if op.is_on(settings)]
    if not on:
        return batch
    if jnp.ndim(batch.get("label", 0)) != 2:  # (batch,) if the task does not read the labels of the data
        raise UserError(f"config.augmentation.{on[0].name} mixes labels, and the task has none; leave it out")
    own, *others = (op.own(batch["image"].shape, fold_in(keys, op.name), settings) for op in on)
    if others:
        cut = jax.vmap(lambda key: jax.random.bernoulli(key, settings.cutmix_share))(fold_in(keys, "cutmix_share"))
        own = jnp.where(cut[:, None, None, None], others[0], own)

    def mixed(rows: jax.Array, weight: jax.Array) -> jax.Array:
        return rows * weight + jnp.roll(rows, -repeats, axis=0) * (1 - weight)

    share = own.mean((1, 2, 3))[:, None]  # of the own label: the mean over the pixels
    return {**batch, "image": mixed(batch["image"], own), "label": mixed(batch["label"], share)}
