"""The names of the outputs of a model's head, and the most probable classes of images."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from vit_jax.errors import UserError
from vit_jax.models.functional import split
from vit_jax.values import first_difference

_LOG = logging.getLogger(__name__)


def padded(names: Sequence[str], count: int) -> tuple[str, ...]:
    """Returns names for the `count` outputs of a head: all of `names`, then `unused N` for each further output N.

    A head may have more outputs (`config.model.num_classes`) than the data has classes, but a model file must name
    either all outputs or none.
    """
    return (*names, *(f"unused {number}" for number in range(len(names), count)))


def check_same(name: str, num_classes: int, class_names: Sequence[str], classes: Sequence[str], mend: str) -> None:
    """Raises UserError if a model was trained for other classes than the data has.

    Args:
        name: what messages call the model, such as its file.
        num_classes: the number of its outputs.
        class_names: the names of its outputs, or () if it has none; then only the number of classes is compared.
        classes: the names of the data's classes.
        mend: the end of the messages, which says how to correct it.
    """
    if num_classes != len(classes):
        raise UserError(f"{name} has {num_classes} classes, and the config's data has {len(classes)}; {mend}")
    if not class_names:
        _LOG.info("%s does not say the names of its classes; their order is taken to be the data's", name)
    elif differs := first_difference(class_names, classes):
        label, theirs, ours = differs
        raise UserError(f"{name} calls the class {label} {theirs!r}, and the config's data calls it {ours!r}; {mend}")


class Top(NamedTuple):
    """A class, the number of its output in the head, from 0, and its probability."""

    name: str
    label: int
    probability: float


def lacking(model: Any) -> str:
    """Returns why a model can't classify, as the end of "the model has …", or "" if it can.

    It can if it has a head that is not all zeros, as a new head is.
    """
    if not model.arch.num_classes:
        return "no head"
    trained = any(np.any(part) for part in jax.tree.leaves(split(model.head)[1]))
    return "" if trained else "a head of zeros, as the public ImageNet-21k files do"


def has_classes(model: Any) -> bool:
    """Returns whether a model can classify; `lacking` says why it can't."""
    return not lacking(model)


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
