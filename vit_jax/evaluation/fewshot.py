"""Few-shot evaluation: the classes of test images by least squares from the features of a few images of each class.

The features are the model's, frozen; nothing is trained (2010.11929, section 4.1). The evaluation has the classes of
its own data set, and reads neither the model's head nor the task. `least_squares.py` has the formulas.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vit_jax.data import Dataset
from vit_jax.errors import UserError
from vit_jax.evaluation.least_squares import Features, Labels, LeastSquares
from vit_jax.evaluation.subject import Evaluate, Subject
from vit_jax.models.functional import Params
from vit_jax.tasks import Batch

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
    """Returns the accuracy on the test images for each strength of the regularisation, float64 (strengths,).

    Args:
        train_features: of the images learned from, (images, features).
        train_labels: their classes, integers (images,) from 0 to below `num_classes`.
        test_features: (images, features), as many features as those of `train_features`.
        test_labels: their classes.
        num_classes: the number of classes.
        l2: the strengths, each at least 1e-6.

    Raises:
        UserError: a feature is not finite.
    """
    for name, features in (("train_features", train_features), ("test_features", test_features)):
        if wrong := _not_finite(features):
            raise UserError(f"{name} are not finite in {wrong} of {len(features)} rows; leave these rows out")
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


class _Found(NamedTuple):
    """What is read and computed of a data set's images."""

    features: Features  # float32, of the images that can be read
    labels: Labels
    unreadable: np.ndarray  # places of the images that can't be read


def make(subject: Subject) -> Evaluate:
    """Returns a function from parameters to the accuracies, such as `5shot`, the mean over all draws of shots.

    With several draws there is also `5shot_std`, their sample standard deviation. All draws are tested on the same
    images: those of the evaluation's split that are no shot of any draw, and can be read. `examples` is their number. A
    shot that can't be read is replaced by the next image of its class. `chosen_l2` says how l2 is chosen.

    Raises:
        UserError: an image may have several classes or none, a class has fewer images than shots, the tests have a
            class of which there are no shots, or no image is left for the tests. The function raises it, too, if a
            feature is not finite, or no test image can be read.
    """
    section, key = subject.section, f"config.evaluations.{subject.name}"
    if subject.dataset.spec.max_labels != 1:
        raise UserError(
            f"{key} is a few-shot evaluation, for which each image has one class, and its max_labels is "
            f"{subject.dataset.spec.max_labels}; set {key}.max_labels to 1"
        )
    source = subject.open_shots()
    names = source.class_names
    label_of = _numbers(subject, names)
    features_of = _features(subject)
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
        learned = features_of(params, images.shots)
        while len(learned.unreadable):
            unreadable.update(images.numbers[learned.unreadable].tolist())
            images = draw()
            learned = features_of(params, images.shots)
        tested = features_of(params, images.tests)
        if not len(tested.labels):
            raise UserError(f"{key} has no test image that can be read; check its data set")
        if len(tested.unreadable):
            _LOG.warning(
                "the evaluation %s counts %d of its %d images; the others can't be read",
                subject.name,
                len(tested.labels),
                len(images.tests),
            )
        labels = label_of[tested.labels]
        values: dict[str, float] = {}
        for count in section.shots:
            found = []
            for rows in images.rows[:, :, :count]:  # (classes, shots) of each draw
                shots = rows.ravel()
                fit = LeastSquares.of(learned.features[shots], learned.labels[shots], len(names))
                strength = chosen_l2(fit, section.l2, count)
                found.append(float(np.mean(fit.predicted(tested.features, strength) == labels)))
                _LOG.info("%s: %d shots, l2 %g: %.4f", subject.name, count, strength, found[-1])
            values[f"{count}shot"] = float(np.mean(found))
            if len(found) > 1:
                values[f"{count}shot_std"] = float(np.std(found, ddof=1))
        return {**values, "examples": float(len(labels))}

    return evaluate


def _numbers(subject: Subject, names: tuple[str, ...]) -> np.ndarray:
    """Returns the number of each of the tests' classes among the shots' classes, (classes of the tests,)."""
    number = {name: place for place, name in enumerate(names)}
    if unknown := [name for name in subject.dataset.class_names if name not in number]:
        raise UserError(
            f"config.evaluations.{subject.name} tests on the class {unknown[0]!r}, of which its shots_split "
            f"{subject.section.shots_split} has none; remove it there or choose another shots_split"
        )
    return np.array([number[name] for name in subject.dataset.class_names])


def _features(subject: Subject) -> Callable[[Params, Dataset], _Found]:
    """Returns a function from parameters and a data set to what is `_Found`; each image is computed once."""
    mesh = subject.mesh

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, PartitionSpec()))  # all processes get all rows
    def whole(params: Params, batch: Batch) -> Batch:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            features = subject.learner.model(params).features(batch["image"])
        return {"features": features, **{name: batch[name] for name in ("label", "mask", "index")}}

    def features_of(params: Params, dataset: Dataset) -> _Found:
        batches = [jax.device_get(whole(params, batch)) for batch in subject.batches(dataset)]
        rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
        read = rows["mask"] > 0
        features = rows["features"][read]
        if wrong := _not_finite(features):
            raise UserError(
                f"the evaluation {subject.name!r} gets features from the model that are not finite, for {wrong} of "
                f"{len(features)} images; choose other weights, a lower config.optimizer.learning_rate if they are "
                "being trained, or the dtype float32"
            )
        return _Found(features, rows["label"][read], rows["index"][~read & (rows["index"] >= 0)])

    return features_of


def _not_finite(features: np.ndarray) -> int:
    """Returns how many rows of features (images, features) hold a number that is not finite."""
    return int((~np.isfinite(features).all(axis=1)).sum())
