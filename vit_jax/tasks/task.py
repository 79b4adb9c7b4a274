"""What a task is: all that the step and the evaluations know of what is learned."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from vit_jax import config as config_lib
from vit_jax.models.architecture import Architecture
from vit_jax.models.functional import Params
from vit_jax.models.model import Model
from vit_jax.randomness import Keys

Batch = dict[str, Any]
Measure = Array | tuple[Array, Array]  # of each row (batch,); and which rows count for it, if not all do


class Task:
    """Turns a batch into a loss, and a batch into measures of each example.

    A task implements `loss` and `measures`. The other methods have defaults: no parameters of its own, and a batch that
    is used as the data gives it.
    """

    frozen: tuple[str, ...] = ()  # patterns of its own parameters that are not trained, as in `optimizer.freeze`
    # Whether it trains the model's head, and `measures` compares the logits, or those in the batch, with `label`. If it
    # does not, the model has no head unless the config says otherwise.
    classifies = False

    def __init__(self, settings: config_lib.Task):
        """`settings` is the config's section."""
        self.settings = settings

    def check(self, config: config_lib.Config) -> None:
        """Raises UserError if the task can't learn from what a config says; no data set is opened."""

    def modules(self, arch: Architecture, rngs: nnx.Rngs) -> nnx.Module | None:
        """Returns the task's own modules, such as a decoder, with initial parameters; None if it has none.

        Their parameters are learned, unless `frozen` has them, and saved beside the model's, under the path `task/`,
        and are sharded by the same table. They are not part of the model that a run leaves.
        """
        return None

    def given(self, model: Model) -> Params:
        """Returns values on the host for some parameters of `modules`, as a nested dict, in place of initial ones.

        They are read once, when a run starts; a run that goes on has them in its checkpoint.

        Args:
            model: the one that learns; its parameters may be shapes.

        Raises:
            UserError: they can't be read, or do not fit the model.
        """
        return {}

    def further_flops(self, arch: Architecture) -> int:
        """Returns the FLOPs of a training step for each image, besides those of the model, which is of `arch`."""
        return 0

    def evaluator(self) -> "Task":
        """Returns the task that evaluations measure: this one, or another that needs no modules of its own."""
        return self

    def targets(self, batch: Batch, num_classes: int) -> Batch:
        """Returns arrays (batch, …) that are added to the batch on the device, or replace some of it.

        Args:
            batch: what `data.open(…).batches` yields, with `mask` in any case: float32 (batch,), 1 for rows that count.
            num_classes: the outputs of the model's head.

        Raises:
            UserError: the batch does not hold what the task needs.
        """
        return {}

    def loss(self, model: Model, own: Any, batch: Batch, key: Keys) -> tuple[Array, dict[str, Array]]:
        """Returns the loss and further metrics by name, each a mean over the rows whose `mask` is 1.

        Args:
            model: with the parameters of the step.
            own: the task's own modules with the parameters of the step; None if it has none.
            batch: normalised and augmented images, float32 (batch, height, width_px, 3), as `image`; `mask`; and what
                the data and `targets` have given.
            key: a key for each row (batch,).
        """
        raise NotImplementedError

    def measures(self, model: Model, own: Any, batch: Batch, key: Keys) -> dict[str, Measure]:
        """Returns measures of each row by name, each (batch,); an evaluation takes their means.

        Rows whose `mask` is 0 never count. A pair says of further rows that they do not count for this measure alone.

        The arguments are those of `loss`, without augmentation; the key depends on the example alone. A task that
        `classifies` takes the logits, float (batch, classes), from the batch if it has `logits`.
        """
        raise NotImplementedError


def masked_mean(values: Float[Array, " batch"], mask: Float[Array, " batch"]) -> Array:
    """Returns the mean of the rows whose mask is 1; 0 if there is none."""
    return (values * mask).sum() / jnp.maximum(mask.sum(), 1)
