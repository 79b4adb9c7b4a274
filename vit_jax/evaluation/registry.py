"""The kinds of evaluations by the name that `config.evaluations.NAME.kind` gives."""

from collections.abc import Callable
from typing import NamedTuple

from vit_jax.evaluation import classification
from vit_jax.evaluation.subject import Evaluate, Subject


class Kind(NamedTuple):
    """What is judged, and on which classes."""

    make: Callable[[Subject], Evaluate]
    own_classes: bool = False  # whether its data set may have other classes than the training set


KINDS: dict[str, Kind] = {"classification": Kind(classification.make)}
