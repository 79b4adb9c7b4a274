"""The training and evaluation images, from disk to uint8 batches on the host, and their augmentation on the device."""

from vit_jax.data.about import Info, class_names, info
from vit_jax.data.identity import Identity, describe, differences, is_identity
from vit_jax.data.once import opened_once
from vit_jax.data.pipeline import batches, evaluation_batches, evaluation_examples
from vit_jax.data.read import read_image, read_images

__all__ = [
    "Identity",
    "Info",
    "batches",
    "class_names",
    "describe",
    "differences",
    "evaluation_batches",
    "evaluation_examples",
    "info",
    "is_identity",
    "opened_once",
    "read_image",
    "read_images",
]
