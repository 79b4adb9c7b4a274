"""Classification by softmax or sigmoid cross-entropy."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from vit_jax import config as config_lib
from vit_jax.errors import UserError
from vit_jax.models.model import Model
from vit_jax.randomness import Keys
from vit_jax.tasks.task import Batch, Measure, Task, masked_mean


def right(
    logits: Float[Array, "batch classes"], labels: Float[Array, "batch classes"], count: int = 1
) -> Float[Array, " batch"]:
    """Returns 1 for the rows of which one of the `count` highest logits is that of a label, and 0 for others."""
    places = logits.argmax(axis=-1)[:, None] if count == 1 else jax.lax.top_k(logits, count)[1]
    return (jnp.take_along_axis(labels, places, axis=-1) > 0).any(axis=-1).astype(jnp.float32)


def labelled(labels: Float[Array, "batch classes"]) -> Bool[Array, " batch"]:
    """Returns which rows have a label."""
    return (labels != 0).any(axis=-1)


def _require_head(num_classes: int | None) -> None:
    if num_classes == 0:
        raise UserError("config.model.num_classes is 0; it must be above 0, or left out to take that of the data set")


class Classification(Task):
    """Learns the weights of classes (batch, classes), so that mixtures and several right classes fit."""

    classifies = True

    def check(self, config: config_lib.Config) -> None:
        """Raises UserError if there is no head, or if no labels are read to train on or to evaluate on."""
        _require_head(config.model.num_classes)
        most = {f"evaluations.{name}": section.max_labels for name, section in config.evaluations.items()}
        for name, count in {"data": config.data.max_labels, **most}.items():
            if count == 0:
                raise UserError(f"config.{name}.max_labels is 0, and classification learns labels; set it to 1 or more")

    def targets(self, batch: Batch, num_classes: int) -> Batch:
        """Returns `label`, the weights of the classes, float32 (batch, num_classes), and `mask`.

        The batch holds one of these:

        - `label` as integers (batch,): one class for each image;
        - `labels` as integers (batch, most): the classes of each image, filled up with -1. With the sigmoid loss each
          of them has the weight 1. With the softmax loss they share the weight 1, and an image without a class does not
          count: its `mask` becomes 0;
        - `label` as numbers (batch, num_classes): the weights.

        An integer that is no class makes its row NaN if the row counts, because values can't be checked inside a
        compiled step.

        Raises:
            UserError: there is no head, or there are no labels, or they have another shape or type.
        """
        _require_head(num_classes)
        mask = batch["mask"]
        if "labels" in batch:
            return self._of_several(jnp.asarray(batch["labels"]), mask, num_classes)
        if "label" not in batch:
            raise UserError(
                "the batch has no label, which classification learns; set config.data.max_labels to 1 or more"
            )
        labels = jnp.asarray(batch["label"])
        if labels.shape == (len(mask), num_classes):
            return {"label": labels.astype(jnp.float32)}
        if labels.shape != (len(mask),) or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise UserError(
                f"the batch's label has the shape {labels.shape} and the type {labels.dtype}; give the weights of the "
                f"classes ({len(mask)}, {num_classes}), or one class an image as integers ({len(mask)},)"
            )
        one_hot = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
        wrong = (mask > 0) & ((labels < 0) | (labels >= num_classes))
        return {"label": jnp.where(wrong[:, None], jnp.nan, one_hot)}

    def _of_several(self, labels: jax.Array, mask: jax.Array, num_classes: int) -> Batch:
        """Returns the weights and the mask of rows with several labels each, (batch, most)."""
        if labels.ndim != 2 or len(labels) != len(mask) or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise UserError(
                f"the batch's labels have the shape {labels.shape} and the type {labels.dtype}; give the classes of "
                f"each image as integers ({len(mask)}, most), filled up with -1"
            )
        weights = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32).max(axis=1)  # nothing for -1
        wrong = (mask > 0) & ((labels < -1) | (labels >= num_classes)).any(axis=-1)
        if self.settings.loss == "softmax":
            count = weights.sum(axis=-1, keepdims=True)
            weights, mask = weights / jnp.maximum(count, 1), mask * (count[:, 0] > 0)
        return {"label": jnp.where(wrong[:, None], jnp.nan, weights), "mask": mask}

    def loss(self, model: Model, own: None, batch: Batch, key: Keys) -> tuple[Array, dict[str, Array]]:
        """Returns the mean cross-entropy over the rows whose `mask` is 1, and no metrics."""
        losses = self._losses(model(batch["image"], key=key), batch["label"], smoothing=self.settings.label_smoothing)
        return masked_mean(losses, batch["mask"]), {}

    def measures(self, model: Model, own: None, batch: Batch, key: Keys) -> dict[str, Measure]:
        """Returns each row's `accuracy` and its `loss` without label smoothing.

        A row is right if the class with the highest logit is among its labels, as in ImageNet ReaL (2006.07159). A row
        without a label has no right class, and does not count for the accuracy.
        """
        logits = batch["logits"] if "logits" in batch else model(batch["image"])
        labels = batch["label"]
        return {"accuracy": (right(logits, labels), labelled(labels)), "loss": self._losses(logits, labels)}

    def _losses(
        self, logits: Float[Array, "batch classes"], labels: Float[Array, "batch classes"], smoothing: float = 0.0
    ) -> Float[Array, " batch"]:
        """Returns each row's softmax cross-entropy, or its sigmoid cross-entropy summed over the classes."""
        if self.settings.loss == "sigmoid":
            return optax.sigmoid_binary_cross_entropy(logits, labels).sum(axis=-1)
        labels = labels * (1 - smoothing) + smoothing / labels.shape[-1]
        return -(labels * jax.nn.log_softmax(logits)).sum(axis=-1)
