"""Measures of a classification besides accuracy and loss: `config.evaluations.NAME.more_measures`.

Each is made of sums over the rows of a batch, in groups such as the classes, so that the sums over all batches give it
exactly, however the images are split.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vit_jax.tasks.classification import labelled, right

BINS = 15  # of the calibration error, as in 1706.04599


class Rows(NamedTuple):
    """A number for each row, the group that it is summed in, and which rows count."""

    values: Float[Array, " batch"]
    group: Int[Array, " batch"]
    counted: Bool[Array, " batch"]
    groups: int  # how many there are


class Measure(NamedTuple):
    """What is summed of a batch's logits and labels, and how the sums and counts by group become a number."""

    rows: Callable[[Array, Array, Array], Rows]  # of logits, probabilities and labels, each (batch, classes)
    finish: Callable[[np.ndarray, np.ndarray], float]  # of sums and counts (groups,)


def mean(sums: np.ndarray, counts: np.ndarray) -> float:
    """Returns the mean over all rows that count."""
    return float(sums.sum() / counts.sum())


def mean_of_means(sums: np.ndarray, counts: np.ndarray) -> float:
    """Returns the mean over the groups that have rows of the means of their rows."""
    return float((sums[counts > 0] / counts[counts > 0]).mean())


def mean_of_distances(sums: np.ndarray, counts: np.ndarray) -> float:
    """Returns the mean distance of the groups' means from 0, weighted by their rows."""
    return float(np.abs(sums).sum() / counts.sum())


def _top5(logits: Array, probabilities: Array, labels: Array) -> Rows:
    return Rows(right(logits, labels, 5), jnp.zeros(len(labels), jnp.int32), labelled(labels), 1)


def _class_accuracy(logits: Array, probabilities: Array, labels: Array) -> Rows:
    return Rows(right(logits, labels), labels.argmax(axis=-1), labelled(labels), labels.shape[-1])


def _calibration_error(logits: Array, probabilities: Array, labels: Array) -> Rows:
    confidence = probabilities.max(axis=-1)
    group = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)  # bins (0, 1/15], (1/15, 2/15], …
    return Rows(right(logits, labels) - confidence, group, labelled(labels), BINS)


MEASURES: dict[str, Measure] = {
    "top5": Measure(_top5, mean),
    "class_accuracy": Measure(_class_accuracy, mean_of_means),
    "calibration_error": Measure(_calibration_error, mean_of_distances),
}


def sums(rows: Rows, mask: Float[Array, " batch"]) -> tuple[Array, Array]:
    """Returns the sums of the rows that count by group, and their numbers, each (groups,)."""
    counted = (mask > 0) & rows.counted
    values = jnp.where(counted, rows.values, 0)
    return (
        jax.ops.segment_sum(values, rows.group, rows.groups),
        jax.ops.segment_sum(counted.astype(jnp.int32), rows.group, rows.groups),
    )
