"""Evaluates the task's measures, such as accuracy and loss, on a split. Every example counts once."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
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
    their number. The function raises UserError if no example counts for one of the measures.
    """
    mesh, task = subject.mesh, subject.task

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def totals(params: Params, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns for each measure its sum over the rows of a batch that count, and the number of these rows."""
        keys = row_keys(stream_key(subject.seed, "evaluation"), batch["index"])
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            batch = {**batch, **task.targets(batch, subject.num_classes)}
            measures = task.measures(*subject.learner.bind(params), batch, keys)
        measures["examples"] = jnp.ones_like(batch["mask"])
        found = {}
        for name, measure in measures.items():
            values, counted = measure if isinstance(measure, tuple) else (measure, True)
            counted = (batch["mask"] > 0) & counted
            found[name] = jnp.where(counted, values, 0).sum(), counted.sum()
        return found

    def evaluate(params: Params) -> dict[str, float]:
        sums: dict[str, np.ndarray] = {}  # float64, in which counts stay exact
        for batch in subject.batches(subject.dataset):
            for name, pair in jax.device_get(totals(params, batch)).items():
                sums[name] = sums.get(name, 0) + np.array(pair, np.float64)
        examples, _ = sums.pop("examples", (0, 0))
        fewest = min((count for _, count in sums.values()), default=0)
        if not fewest:
            raise UserError(
                f"the evaluation {subject.name!r} has no image that can be read and has a label; check its data set"
            )
        if fewest < len(subject.dataset):
            _LOG.warning(
                "the evaluation %s counts %d of its %d images; the others can't be read or have no label",
                subject.name,
                fewest,
                len(subject.dataset),
            )
        means = {name: float(total / count) for name, (total, count) in sums.items()}
        return {**means, "examples": float(examples)}

    return evaluate
