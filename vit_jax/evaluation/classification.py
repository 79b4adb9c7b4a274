"""Evaluates the task's measures, such as accuracy and loss, on a split. Every example counts once."""

import functools
import logging

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from vit_jax.errors import UserError
from vit_jax.evaluation.subject import Evaluate, Subject
from vit_jax.models.functional import Params
from vit_jax.randomness import row_keys, stream_key
from vit_jax.tasks import Batch

_LOG = logging.getLogger(__name__)


def make(subject: Subject) -> Evaluate:
    """Returns a function from parameters to the means of the task's measures over all examples that count.

    Examples that can't be read, or that the task excludes because they have no label, do not count; a warning gives
    their number. The function raises UserError if no example counts.
    """
    mesh, task = subject.mesh, subject.task

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def totals(params: Params, batch: Batch) -> dict[str, jax.Array]:
        """Returns the sums of the measures over the rows of a batch that count, and the number of these rows."""
        keys = row_keys(stream_key(subject.seed, "evaluation"), batch["index"])
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            batch = {**batch, **task.targets(batch, subject.num_classes)}
            measures = task.measures(*subject.learner.bind(params), batch, keys)
        counted = batch["mask"] > 0
        measures["examples"] = jnp.ones_like(batch["mask"])
        return {name: jnp.where(counted, values, 0).sum() for name, values in measures.items()}

    def evaluate(params: Params) -> dict[str, float]:
        sums: dict[str, float] = {"examples": 0.0}  # Python floats are float64, in which counts stay exact
        for batch in subject.batches(subject.dataset):
            for name, value in jax.device_get(totals(params, batch)).items():
                sums[name] = sums.get(name, 0.0) + float(value)
        examples = sums.pop("examples")
        if not examples:
            raise UserError(
                f"the evaluation {subject.name!r} has no image that can be read and has a label; check its data set"
            )
        if examples < len(subject.dataset):
            _LOG.warning(
                "the evaluation %s counts %d of its %d images; the others can't be read or have no label",
                subject.name,
                examples,
                len(subject.dataset),
            )
        return {**{name: value / examples for name, value in sums.items()}, "examples": examples}

    return evaluate
