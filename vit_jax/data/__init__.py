"""The training and evaluation images, from disk to uint8 batches on the host, and their augmentation on the device."""

from vit_jax.data.about import Info, class_names, info
from vit_jax.data.pipeline import batches, evaluation_batches, evaluation_examples
from vit_jax.data.read import read_image, read_images

__all__ = [
    "Info",
    "batches",
    "class_names",
    "evaluation_batches",
    "evaluation_examples",
    "info",
    "read_image",
    "read_images",
]
