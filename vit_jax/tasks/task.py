"""The seam between what is learned, and the step and the evaluations that know only this protocol."""

from typing import Any, Protocol

import jax
from jaxtyping import Array

from vit_jax.models.randomness import Keys

Batch = dict[str, Any]


class Task(Protocol):
    """Turns a batch into a loss, and a model's outputs into measures of each example."""

    def targets(self, batch: Batch, mask: jax.Array, num_classes: int) -> Array:
        """Returns what `loss` takes as `label`, made on the device of what the data gives as `label`.

        Args:
            batch: as `data.batches` yields it.
            mask: float32 (batch,), 1 for the rows that count.
            num_classes: the outputs of the model's head.

        Raises:
            UserError: the labels have another shape or type.
        """
        ...

    def loss(self, model: Any, batch: Batch, key: Keys | None) -> tuple[Array, dict[str, Array]]:
        """Returns the mean loss over the rows whose `mask` is 1, and metrics."""
        ...

    def measures(self, model: Any, batch: Batch) -> dict[str, Array]:
        """Returns measures of each row by name, each of shape (batch,); an evaluation takes their means."""
        ...
