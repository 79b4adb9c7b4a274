"""What is learned. A task turns a batch into a loss; classification is the first."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from vit_jax import config as config_lib
from vit_jax.models.randomness import Keys

Batch = dict[str, Any]


class Task(Protocol):
    """The seam between the step and what is learned."""

    def loss(self, model: Any, batch: Batch, key: Keys | None) -> tuple[Array, dict[str, Array]]:
        """The mean over rows whose `mask` is 1, and metrics."""
        ...


class Classification:
    """Softmax or sigmoid cross-entropy. Labels are (batch, classes), so that mixtures and several right ones fit."""

    def __init__(self, settings: config_lib.Task):
        self._settings = settings

    def loss(self, model: Any, batch: Batch, key: Keys | None) -> tuple[Array, dict[str, Array]]:
        losses = self.losses(model(batch["image"], key=key), batch["label"], smoothing=self._settings.label_smoothing)
        return masked_mean(losses, batch["mask"]), {}

    def losses(
        self, logits: Float[Array, "batch classes"], labels: Float[Array, "batch classes"], smoothing: float = 0.0
    ) -> Float[Array, " batch"]:
        """Each row's loss: softmax cross-entropy, or sigmoid cross-entropy summed over the classes."""
        if self._settings.loss == "sigmoid":
            return optax.sigmoid_binary_cross_entropy(logits, labels).sum(axis=-1)
        labels = labels * (1 - smoothing) + smoothing / labels.shape[-1]
        return -(labels * jax.nn.log_softmax(logits)).sum(axis=-1)


TASKS = {"classification": Classification}


def make_task(settings: config_lib.Task) -> Task:
    return TASKS[settings.name](settings)


def masked_mean(values: Float[Array, " batch"], mask: Float[Array, " batch"]) -> Array:
    return (values * mask).sum() / jnp.maximum(mask.sum(), 1)
