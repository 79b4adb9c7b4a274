"""Accuracy and loss on a split, every example counted once."""

import functools
import logging
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vit_jax import config as config_lib
from vit_jax import data, sharding
from vit_jax.errors import UserError
from vit_jax.models.functional import Params, split
from vit_jax.models.model import Model
from vit_jax.training import start
from vit_jax.training.tasks import Batch, Classification

_LOG = logging.getLogger(__name__)
_QUIET_SECONDS = 20.0
Evaluate = Callable[[Params], dict[str, float]]


def make_evaluations(config: config_lib.Config, model: Model, mesh: Mesh) -> dict[str, Evaluate]:
    """For each evaluation in the config a function from parameters to `{"accuracy": …, "loss": …}`.

    An example is right where the class with the highest logit is among its labels; the loss is the task's, without
    label smoothing. Both are means over all examples that can be read. Images are made as the model's preprocessing
    says, with an evaluation's own `shorter_side` where it has one.

    Raises:
        UserError: a batch that does not divide over the devices.
    """
    config = start.preprocessed(config, model)
    bind, _ = split(model)
    task = Classification(config.task)

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def totals(params: Params, batch: Batch) -> jax.Array:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            logits = bind(params)(batch["image"])
        right = jnp.take_along_axis(batch["label"], logits.argmax(axis=-1)[:, None], axis=-1)[:, 0] > 0
        values = jnp.stack([right, task.losses(logits, batch["label"]), jnp.ones_like(batch["mask"])])
        return jnp.where(batch["mask"] > 0, values, 0).sum(axis=1)

    def make(name: str, batch_size: int) -> Evaluate:
        rows = sharding.local_rows(mesh, batch_size)

        def evaluate(params: Params) -> dict[str, float]:
            sums = [0.0, 0.0, 0.0]  # right, loss, examples: float64, so that counts stay exact
            said = time.monotonic()
            for batch in data.evaluation_batches(config, name, rows=rows):
                part = totals(params, sharding.to_devices(batch, mesh, batch_size))
                sums = [a + b for a, b in zip(sums, map(float, np.asarray(part)), strict=True)]
                if time.monotonic() - said > _QUIET_SECONDS:
                    said = time.monotonic()
                    _LOG.info("evaluating %s: %.0f images so far", name, sums[2])
            if not sums[2]:
                raise UserError(f"the evaluation {name!r} has no image that can be read; check its data set")
            return {"accuracy": sums[0] / sums[2], "loss": sums[1] / sums[2]}

        return evaluate

    evaluations = {}
    for name, section in config.evaluations.items():
        key = "global_batch_size" if section.batch_size is None else f"evaluations.{name}.batch_size"
        batch_size = section.batch_size or config.global_batch_size
        sharding.check_batch(mesh, batch_size, key)
        own, of_model = section.shorter_side, config.preprocessing.shorter_side
        if own is not None and own != of_model:
            _LOG.info(
                "the evaluation %s sees images of another shorter_side, %s, than the saved model's, %s (0: the whole "
                "image); config.preprocessing.shorter_side sets both",
                name,
                own,
                of_model,
            )
        evaluations[name] = make(name, batch_size)
    return evaluations
