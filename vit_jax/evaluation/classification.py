"""Evaluates the task's measures, such as accuracy and loss, on a split. Every example counts once."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vit_jax.errors import UserError
from vit_jax.evaluation import measures as more
from vit_jax.evaluation.subject import Evaluate, Subject
from vit_jax.models.functional import Params
from vit_jax.randomness import row_keys, stream_key
from vit_jax.tasks import Batch

_LOG = logging.getLogger(__name__)
_NEVER = -1e9  # the logit of a class that is not predicted; finite, since 0 times it is a part of the loss


def make(subject: Subject) -> Evaluate:
    """Returns a function from parameters to the means of the task's measures over all examples that count.

    With them are the section's `more_measures`. Examples that can't be read, or that the task excludes because they
    have no label, do not count; a warning gives their number.

    Raises:
        UserError: the section asks for what does not fit the task or the data. The function raises it if no example
            counts for one of the measures.
    """
    mesh, task, section = subject.mesh, subject.task, subject.section
    allowed = _allowed(subject)
    _check(subject, allowed)
    takes_logits = bool(section.more_measures) or allowed is not None

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))
    def totals(params: Params, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
        """Returns for each measure its sum over the rows of a batch that count, and the number of these rows.

        Some measures have several of each, by group.
        """
        keys = row_keys(stream_key(subject.seed, "evaluation"), batch["index"])
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            batch = {**batch, **task.targets(batch, subject.num_classes)}
            model, own = subject.learner.bind(params)
            if takes_logits:
                logits = model(batch["image"])
                batch["logits"] = logits if allowed is None else jnp.where(allowed, logits, _NEVER)
            measures = task.measures(model, own, batch, keys)
        measures["examples"] = jnp.ones_like(batch["mask"])
        found = {}
        for name, measure in measures.items():
            values, counted = measure if isinstance(measure, tuple) else (measure, True)
            counted = (batch["mask"] > 0) & counted
            found[name] = jnp.where(counted, values, 0).sum(), counted.sum()
        for name in section.more_measures:
            logits = batch["logits"]
            probabilities = jax.nn.sigmoid(logits) if task.settings.loss == "sigmoid" else jax.nn.softmax(logits)
            rows = more.MEASURES[name].rows(logits, probabilities, batch["label"])
            found[name] = more.sums(rows, batch["mask"])
        return found

    def evaluate(params: Params) -> dict[str, float]:
        sums: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # float64, in which counts stay exact
        for batch in subject.batches(subject.dataset):
            for name, (total, count) in jax.device_get(totals(params, batch)).items():
                before = sums.get(name, (np.zeros(()), np.zeros(())))
                sums[name] = before[0] + np.float64(total), before[1] + np.float64(count)
        examples, _ = sums.pop("examples", (np.zeros(()), np.zeros(())))
        fewest = min((int(count.sum()) for _, count in sums.values()), default=0)
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
        finish = {name: more.MEASURES[name].finish for name in section.more_measures}
        means = {name: finish.get(name, more.mean)(*pair) for name, pair in sums.items()}
        return {**means, "examples": float(examples)}

    return evaluate


def _allowed(subject: Subject) -> np.ndarray | None:
    """Returns which classes may be predicted, a mask (classes,); None if all may."""
    if subject.section.classes == "all":
        return None
    found = subject.dataset.occurring()
    _LOG.info("%s: %d of %d classes have images and may be predicted", subject.name, len(found), subject.num_classes)
    return np.isin(np.arange(subject.num_classes), found)


def _check(subject: Subject, allowed: np.ndarray | None) -> None:
    """Raises UserError if the section asks for what does not fit the task or the data."""
    section, key = subject.section, f"config.evaluations.{subject.name}"
    for name, value in (("classes", allowed is not None), ("more_measures", bool(section.more_measures))):
        if value and not subject.task.classifies:
            raise UserError(
                f"nothing reads {key}.{name}={getattr(section, name)!r}, because the task {subject.task.settings.name} "
                "does not classify; leave it out"
            )
    count = subject.num_classes if allowed is None else int(allowed.sum())
    if "top5" in section.more_measures and count <= 5:
        raise UserError(f"{key}.more_measures has top5, and of {count} classes no five can be wrong; leave it out")
    if "class_accuracy" in section.more_measures and subject.dataset.spec.max_labels != 1:
        raise UserError(
            f"{key}.more_measures has class_accuracy, for which each image has one class, and its max_labels is "
            f"{subject.dataset.spec.max_labels}; leave it out or set {key}.max_labels to 1"
        )
