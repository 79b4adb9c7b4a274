"""Few-shot evaluation: the classes of test images by least squares from the features of a few images of each class.

The features are the model's, frozen; nothing is trained (2010.11929, section 4.1). The evaluation has the classes of
its own data set, and reads neither the model's head nor the task. `least_squares.py` has the formulas.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vit_jax.data import Dataset
from vit_jax.errors import UserError
from vit_jax.evaluation.features import require_finite
from vit_jax.evaluation.learned import open_learned, readable_tests
from vit_jax.evaluation.least_squares import Features, Labels, LeastSquares
from vit_jax.evaluation.subject import Evaluate, Subject
from vit_jax.models.functional import Params

_LOG = logging.getLogger(__name__)


def accuracies(
    train_features: Features,
    train_labels: Labels,
    test_features: Features,
    test_labels: Labels,
    *,
    num_classes: int,
    l2: Sequence[float],
) -> np.ndarray:
    """Returns the accuracy of linear least squares on the test images, for each strength of its regularisation.

    Args:
        train_features: the features of the images that the classifier is fitted to, (images, features).
        train_labels: the classes of these images, integers (images,) from 0 to `num_classes - 1`.
        test_features: the features of the images that it is tested on, (images, features), at least one image.
        test_labels: the classes of these images, integers (images,).
        num_classes: the number of classes.
        l2: the strengths, each at least 1e-6; `LeastSquares` says what they mean.

    Returns:
        The shares of test images that are classified correctly, 0 to 1, float64 (strengths,).

    Raises:
        UserError: a feature is not finite.
    """
    require_finite(train_features=train_features, test_features=test_features)
    fit = LeastSquares.of(train_features, train_labels, num_classes)
    return np.array([np.mean(fit.predicted(test_features, strength) == test_labels) for strength in l2])


def chosen_l2(fit: LeastSquares, l2: Sequence[float], shots: int) -> float:
    """Returns the strength with which most shots are right, each predicted from all the other shots.

    Of strengths with which equally many are right, it is the one with the smallest squared error. Test images have no
    part in the choice. With one shot nothing can be held out, since no image of its class would be left; the strength
    is then the median of `l2`; of two middle values it is the smaller.
    """
    if shots == 1:
        return sorted(l2)[(len(l2) - 1) // 2]

    def merit(strength: float) -> tuple[float, float]:
        accuracy, error = fit.left_one_out(strength)
        return accuracy, -error

    return max(l2, key=merit)


class _Images(NamedTuple):
    """The images of an evaluation."""

    numbers: np.ndarray  # of the shots in the data set that they are drawn from, (images,)
    shots: Dataset  # those images
    rows: np.ndarray  # where in `shots` each shot is, (draws, classes, shots)
    tests: Dataset


def make(subject: Subject) -> Evaluate:
    """Returns a function from parameters to the accuracies, such as `5shot`, the mean over all draws of shots.

    With several draws there is also `5shot_std`, their sample standard deviation. All draws are tested on the same
    images: those of the evaluation's split that are no shot of any draw, and can be read. `examples` is their number. A
    shot that can't be read is replaced by the next image of its class. `chosen_l2` says how l2 is chosen.

    Raises:
        UserError: an image may have several classes or none, a class has fewer images than shots, the tests have a
            class that is not learned, or no image is left for the tests. The function raises it, too, if a feature is
            not finite, or no test image can be read.
    """
    section, key = subject.section, f"config.evaluations.{subject.name}"
    source, label_of = open_learned(subject)
    num_classes = len(source.class_names)
    unreadable: set[int] = set()

    def draw() -> _Images:
        drawn = source.shots(max(section.shots), section.draws, unreadable)  # (draws, classes, shots)
        numbers, rows = np.unique(drawn, return_inverse=True)
        shots = source.take(numbers)
        tests = subject.dataset.without(shots)
        if not len(tests):
            raise UserError(
                f"{key} has no image left to test on, because its {len(shots)} shots are all images of "
                f"{section.split}; choose another split, or fewer shots or draws"
            )
        return _Images(numbers, subject.keep_open(shots), rows.reshape(drawn.shape), subject.keep_open(tests))

    images = draw()  # now, so that what is wrong is found before a run trains

    def evaluate(params: Params) -> dict[str, float]:
        nonlocal images
        learned = subject.features(params, images.shots)
        while not learned.read.all():
            unreadable.update(images.numbers[~learned.read].tolist())
            images = draw()
            learned = subject.features(params, images.shots)
        tested = readable_tests(subject, params, images.tests)
        labels = label_of[tested.labels]
        values: dict[str, float] = {}
        for count in section.shots:
            found = []
            for rows in images.rows[:, :, :count]:  # (classes, shots) of each draw
                shots = rows.ravel()
                fit = LeastSquares.of(learned.values[shots], learned.labels[shots], num_classes)
                strength = chosen_l2(fit, section.l2, count)
                found.append(float(np.mean(fit.predicted(tested.values, strength) == labels)))
                _LOG.info("%s: %d shots, l2 %g: %.4f", subject.name, count, strength, found[-1])
            values[f"{count}shot"] = float(np.mean(found))
            if len(found) > 1:
                values[f"{count}shot_std"] = float(np.std(found, ddof=1))
        return {**values, "examples": float(len(labels))}

    return evaluate
