"""The kinds of evaluations, by the value of `config.evaluations.NAME.kind`."""

from collections.abc import Callable
from typing import NamedTuple

from vit_jax.evaluation import classification, fewshot, knn, probe
from vit_jax.evaluation.subject import Evaluate, Subject


class Kind(NamedTuple):
    """A kind of evaluation."""

    make: Callable[[Subject], Evaluate]
    own_classes: bool = False  # whether its data set has classes of its own; it then reads neither head nor task


KINDS: dict[str, Kind] = {
    "classification": Kind(classification.make),
    "fewshot": Kind(fewshot.make, own_classes=True),
    "knn": Kind(knn.make, own_classes=True),
    "probe": Kind(probe.make, own_classes=True),
}
