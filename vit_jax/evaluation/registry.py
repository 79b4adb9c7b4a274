"""The kinds of evaluations by the name that `config.evaluations.NAME.kind` gives."""

from collections.abc import Callable

from vit_jax.evaluation import classification
from vit_jax.evaluation.subject import Evaluate, Subject

KINDS: dict[str, Callable[[Subject], Evaluate]] = {"classification": classification.make}
