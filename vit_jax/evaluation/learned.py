"""What the evaluations have in common that learn classes from frozen features: what they learn from, what they test.

They have the classes of their own data sets, and read neither the model's head nor the task.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vit_jax.data import Dataset
from vit_jax.errors import UserError
from vit_jax.evaluation.features import Features
from vit_jax.evaluation.subject import Subject
from vit_jax.models.functional import Params

_LOG = logging.getLogger(__name__)


class Known(NamedTuple):
    """The features of some images and their classes."""

    features: Float[np.ndarray, "images features"]
    labels: Int[np.ndarray, " images"]  # numbers in the classes that are learned


class Split(NamedTuple):
    """All images of a split to learn from, and those to test on; `known` returns what is known of both."""

    images: int  # that are learned from, also those that can't be read
    num_classes: int
    known: Callable[[Params], tuple[Known, Known]]


def open_learned(subject: Subject) -> tuple[Dataset, np.ndarray]:
    """Returns the images to learn from, and the number of each of the tests' classes among their classes.

    Raises:
        UserError: an image may have several classes or none, or the tests have a class that is not learned.
    """
    section, key = subject.section, f"config.evaluations.{subject.name}"
    if subject.dataset.spec.max_labels != 1:
        raise UserError(
            f"{key} is of the kind {section.kind}, for which each image has one class, and its max_labels is "
            f"{subject.dataset.spec.max_labels}; set {key}.max_labels to 1"
        )
    learned = subject.open_learned()
    number = {name: place for place, name in enumerate(learned.class_names)}
    if unknown := [name for name in subject.dataset.class_names if name not in number]:
        raise UserError(
            f"{key} tests on the class {unknown[0]!r}, of which its train_split {section.train_split} has none; remove "
            "it there or choose another train_split"
        )
    return learned, np.array([number[name] for name in subject.dataset.class_names])


def readable_tests(subject: Subject, params: Params, tests: Dataset) -> Features:
    """Returns the features of those test images that can be read; a warning says if there are others.

    Raises:
        UserError: none can be read, or a feature is not finite.
    """
    return _readable(subject, params, tests, "counts %d of its %d images", "no test image that can be read")


def _readable(subject: Subject, params: Params, dataset: Dataset, some: str, none: str) -> Features:
    """Returns the features of those images that can be read; `some` and `none` say it if they are not all."""
    found = subject.features(params, dataset)
    if not found.read.any():
        raise UserError(f"config.evaluations.{subject.name} has {none}; check its data set")
    if not found.read.all():
        counts = some % (found.read.sum(), len(found.read))
        _LOG.warning("the evaluation %s %s; the others can't be read", subject.name, counts)
    return found.take(found.read)


def open_split(subject: Subject) -> Split:
    """Returns what an evaluation learns from and what it tests on.

    It learns from the whole `train_split`, and tests on the images of `split` that are not in `train_split`.

    Raises:
        UserError: as `open_learned`, or no image is left to test on. The function `known` of the result raises it, too:
            if a feature is not finite, if no image to learn from can be read, or if no image to test on can be read.
    """
    section, key = subject.section, f"config.evaluations.{subject.name}"
    learned, label_of = open_learned(subject)
    tests = subject.dataset.without(learned)
    if not len(tests):
        raise UserError(
            f"{key} has no image left to test on, because it learns from all images of {section.split}; choose another "
            "split or train_split"
        )
    if len(tests) < len(subject.dataset):
        _LOG.info("%s: %d of %d images are learned from, and not tested", subject.name,
                  len(subject.dataset) - len(tests), len(subject.dataset))  # fmt: skip
    tests = subject.keep_open(tests)
    names = learned.class_names

    def known(params: Params) -> tuple[Known, Known]:
        found = _readable(
            subject,
            params,
            learned,
            "learns from %d of the %d images of its train_split",
            "no image to learn from that can be read",
        )
        tested = readable_tests(subject, params, tests)
        labels = label_of[tested.labels]
        if missing := sorted(set(labels.tolist()) - set(found.labels.tolist())):
            _LOG.warning(
                "the evaluation %s tests on %d classes of which its train_split has no image, such as %r; they are "
                "counted as wrong",
                subject.name,
                len(missing),
                names[missing[0]],
            )
        return Known(found.values, found.labels), Known(tested.values, labels)

    return Split(len(learned), len(names), known)
