"""Classification by softmax or sigmoid cross-entropy."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vit_jax import config as config_lib
from vit_jax.errors import UserError
from vit_jax.models.randomness import Keys
from vit_jax.tasks.task import Batch


class Classification:
    """Learns the weights of classes (batch, classes), so that mixtures and several right classes fit."""

    def __init__(self, settings: config_lib.Task):
        self._settings = settings

    def targets(self, batch: Batch, mask: jax.Array, num_classes: int) -> Array:
        """Returns the weights of the classes, float32 (batch, num_classes).

        `batch["label"]` is these weights already, or one class for each image as integers (batch,). An integer that
        is no class makes its row NaN if the row counts, because values can't be checked inside of a compiled step.

        Raises:
            UserError: the labels have another shape or type.
        """
        labels = jnp.asarray(batch["label"])
        if labels.shape == (len(mask), num_classes):
            return labels.astype(jnp.float32)
        if labels.shape != (len(mask),) or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise UserError(
                f"the batch's label has the shape {labels.shape} and the type {labels.dtype}; give the weights of the "
                f"classes ({len(mask)}, {num_classes}), or one class an image as integers ({len(mask)},)"
            )
        one_hot = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
        wrong = (mask > 0) & ((labels < 0) | (labels >= num_classes))
        return jnp.where(wrong[:, None], jnp.nan, one_hot)

    def loss(self, model: Any, batch: Batch, key: Keys | None) -> tuple[Array, dict[str, Array]]:
        """Returns the mean cross-entropy over the rows whose `mask` is 1, and no metrics."""
        losses = self._losses(model(batch["image"], key=key), batch["label"], smoothing=self._settings.label_smoothing)
        return _masked_mean(losses, batch["mask"]), {}

    def measures(self, model: Any, batch: Batch) -> dict[str, Array]:
        """Returns each row's `accuracy` and its `loss` without label smoothing.

        A row is right if the class with the highest logit is among its labels.
        """
        logits, labels = model(batch["image"]), batch["label"]
        right = jnp.take_along_axis(labels, logits.argmax(axis=-1)[:, None], axis=-1)[:, 0] > 0
        return {"accuracy": right.astype(jnp.float32), "loss": self._losses(logits, labels)}

    def _losses(
        self, logits: Float[Array, "batch classes"], labels: Float[Array, "batch classes"], smoothing: float = 0.0
    ) -> Float[Array, " batch"]:
        """Returns each row's softmax cross-entropy, or its sigmoid cross-entropy summed over the classes."""
        if self._settings.loss == "sigmoid":
            return optax.sigmoid_binary_cross_entropy(logits, labels).sum(axis=-1)
        labels = labels * (1 - smoothing) + smoothing / labels.shape[-1]
        return -(labels * jax.nn.log_softmax(logits)).sum(axis=-1)


def _masked_mean(values: Float[Array, " batch"], mask: Float[Array, " batch"]) -> Array:
    return (values * mask).sum() / jnp.maximum(mask.sum(), 1)
