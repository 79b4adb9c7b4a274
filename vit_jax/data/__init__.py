"""The training and evaluation images, from disk to uint8 batches on the host, and their augmentation on the device."""

from vit_jax.data.about import Info, class_names, info, resolved
from vit_jax.data.configured import (
    batches,
    evaluation_batches,
    open_evaluation,
    open_learned,
    open_training,
)
from vit_jax.data.dataset import Dataset, open
from vit_jax.data.identity import Identity, describe, differences, is_identity
from vit_jax.data.once import opened_once
from vit_jax.data.pipeline import label_shapes
from vit_jax.data.read import read_ahead, read_image, read_images, readable
from vit_jax.data.spec import Spec, evaluation_spec, training_spec

__all__ = [
    "Dataset",
    "Identity",
    "Info",
    "Spec",
    "batches",
    "class_names",
    "describe",
    "differences",
    "evaluation_batches",
    "evaluation_spec",
    "info",
    "is_identity",
    "label_shapes",
    "open",
    "open_evaluation",
    "open_learned",
    "open_training",
    "opened_once",
    "read_ahead",
    "read_image",
    "read_images",
    "readable",
    "resolved",
    "training_spec",
]
