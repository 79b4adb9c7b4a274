"""Compares what a file computes with what its model computes, on random images."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from vit_jax.errors import UserError
from vit_jax.exporting.function import Exported, changed
from vit_jax.models.functional import split

LIMIT = 1e-4  # the largest difference in float32; relative to the largest output, if that is above 1
_SOME = 3  # images in a batch, and then a batch of one, if a file takes any number


class Agreement(NamedTuple):
    """How well a file agrees with its model.

    Attributes:
        difference: the largest absolute difference of an output.
        limit: the largest that is allowed.
        largest: the largest absolute value of an output.
        batches: the numbers of images in the batches that were tried.
    """

    difference: float
    limit: float
    largest: float
    batches: tuple[int, ...]

    def __str__(self) -> str:
        sizes = " and ".join(map(str, self.batches))
        return f"{self.difference:.2g} on batches of {sizes} random images, whose largest output is {self.largest:.3g}"


def agreement(what: Exported, run: Callable[[np.ndarray], np.ndarray]) -> Agreement:
    """Returns how well a file agrees with its model.

    In float32, two correct computations of a model differ by rounding, which grows with the outputs: the limit is 1e-4,
    or 1e-4 of the largest output if that is above 1.

    In bfloat16, two correct computations may be as far from each other as each is from the exact outputs. The limit is
    twice the largest difference between the model in bfloat16 and the same model in float32, which is the sum of these
    two distances, or the limit of float32 if that is larger.

    Args:
        what: what the file computes.
        run: computes it by the file, from a batch of images.
    """
    batches = (what.batch,) if what.batch else (_SOME, 1)
    params, images = split(what.model)[1], what.images(batches[0], seed=0)
    expected = np.asarray(jax.jit(what.computed)(params, images))
    difference = max(_distance(run(images[:batch]), expected[:batch]) for batch in batches)
    largest, rounding = float(np.abs(expected).max()), 0.0
    if what.model.arch.dtype == "bfloat16":
        exact = dataclasses.replace(what, model=changed(what.model, dtype="float32"))
        rounding = _distance(np.asarray(jax.jit(exact.computed)(params, images)), expected)
    return Agreement(difference, max(LIMIT * max(1.0, largest), 2 * rounding), largest, batches)


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest absolute difference, or infinity if the shapes differ or a value is not a number."""
    if found.shape != expected.shape:
        return float("inf")
    distance = float(np.abs(found - expected).max())
    return distance if np.isfinite(distance) else float("inf")


def check(found: Agreement, name: Any) -> None:
    """Raises UserError if a file does not agree with its model."""
    if not found.difference <= found.limit:
        raise UserError(
            f"{name} is not written, because it differs from the model by {found}, and may by {found.limit:.2g}; take "
            "the other format, and report this with the output of vit_jax.convert --info"
        )
