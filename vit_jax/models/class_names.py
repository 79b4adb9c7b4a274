"""The names of the outputs of a model's head, and the most probable classes of images."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from vit_jax.models.functional import split


def padded(names: Sequence[str], count: int) -> tuple[str, ...]:
    """Returns names for the `count` outputs of a head: all of `names`, then `unused N` for each further output N.

    A head may have more outputs (`config.model.num_classes`) than the data has classes, but a model file must name
    either all outputs or none.
    """
    return (*names, *(f"unused {number}" for number in range(len(names), count)))


class Top(NamedTuple):
    """A class, the number of its output in the head, from 0, and its probability."""

    name: str
    label: int
    probability: float


def has_classes(model: Any) -> bool:
    """Returns whether a model can classify: it has a head, and the head is not all zeros, as a new head is."""
    return bool(model.arch.num_classes) and any(np.any(part) for part in jax.tree.leaves(split(model.head)[1]))


def top(model: Any, logits: Float[np.ndarray, "batch classes"], count: int) -> tuple[tuple[Top, ...], ...]:
    """Returns the `count` most probable classes of each image, the most probable first, by the softmax of its logits.

    A class without a name is called `class N`.
    """
    probabilities = np.asarray(jax.nn.softmax(logits))
    names = model.class_names or [f"class {index}" for index in range(probabilities.shape[1])]
    return tuple(
        tuple(Top(names[label], int(label), float(row[label])) for label in np.argsort(-row)[:count])
        for row in probabilities
    )
