"""Augmentation on the device, inside the training step, in two stages.

Operations on pixels come first, on float32 images of 0 to 255, before they are normalised. Operations that mix the rows
of a batch come second, on normalised images and what else the batch holds of each row. Both are ordered lists, and each
operation has its own key for each row, derived from its name. A new operation is a function and a line in one of the
lists; it does not change what the others draw.

What happens to a row depends on its own key, and in mixing also on the row after it. A sharded batch is therefore
augmented as a whole one is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vit_jax.config import Augmentation
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
    """An operation on a batch of normalised images and `label`, the weights of the classes (batch, classes)."""

    name: str  # of its keys
    is_on: Callable[[Augmentation], Any]
    apply: Callable[[Batch, Keys, Augmentation], Batch]


def _flip(images: jax.Array, keys: Keys, settings: Augmentation) -> jax.Array:
    flipped = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def _rotate_and_shift(images: jax.Array, keys: Keys, settings: Augmentation) -> jax.Array:
    most = jnp.array([jnp.deg2rad(settings.rotate_degrees), settings.shift_pixels, settings.shift_pixels], jnp.float32)
    drawn = jax.vmap(lambda key: jax.random.uniform(key, (3,), jnp.float32, -1, 1))(keys) * most
    return rotated_and_shifted(images, *drawn.T)


def _mixup(batch: Batch, keys: Keys, settings: Augmentation) -> Batch:
    """Mixes each row with the one after it (Zhang et al., arXiv:1710.09412); its own share is at least a half."""
    alpha = settings.mixup
    share = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha, dtype=jnp.float32))(keys)
    share = jnp.maximum(share, 1 - share)

    def mixed(rows: jax.Array) -> jax.Array:
        weight = share.reshape(-1, *[1] * (rows.ndim - 1))
        return rows * weight + jnp.roll(rows, -1, axis=0) * (1 - weight)

    return {**batch, "image": mixed(batch["image"]), "label": mixed(batch["label"])}


PIXELS: tuple[PixelOp, ...] = (
    PixelOp("flip", lambda s: s.flip, _flip),
    PixelOp("rotate_and_shift", lambda s: s.rotate_degrees or s.shift_pixels, _rotate_and_shift),
)
MIXING: tuple[MixingOp, ...] = (MixingOp("mixup", lambda s: s.mixup, _mixup),)


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


def mix(batch: Batch, keys: Keys, settings: Augmentation) -> Batch:
    """Returns the batch after the mixing operations that are on, in the order of `MIXING`.

    Args:
        batch: `image` float32 (batch, height, width_px, 3), normalised; `label` float32 (batch, classes).
        keys: typed PRNG keys (batch,), one for each row.
        settings: the config's section.

    Raises:
        UserError: an operation is on, and the task has no labels.
    """
    for op in MIXING:
        if op.is_on(settings):
            if "label" not in batch:
                raise UserError(f"config.augmentation.{op.name} mixes labels, and the task has none; leave it out")
            batch = op.apply(batch, fold_in(keys, op.name), settings)
    return batch
