"""Linear probe: scikit-learn's classes, what is held out, the fit by mini-batches, and wrong input."""

import logging

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import vit_jax
from helpers import evaluations
from helpers.folders import refused
from vit_jax import UserError
from vit_jax.evaluation import probe

STRENGTHS = (0.1, 10.0, 1000.0)


def drawn(images, classes, seed, noise=3.0):
    """Returns features of several scales, the last constant, and classes with gaps between their numbers."""
    centres = np.random.default_rng(99).normal(size=(classes, 20))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    features = (centres[labels] + noise * rng.normal(size=(images, 20))) * np.geomspace(0.01, 100, 20) + 5
    return np.pad(features, ((0, 0), (0, 1)), constant_values=3).astype(np.float32), 3 * labels + 2


def of_scikit_learn(features, labels, l2):
    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / l2, max_iter=1000)).fit(
        features.astype(np.float64), labels
    )


@pytest.mark.parametrize("classes", [2, 5])
def test_the_predictions_of_scikit_learn(classes):
    """On images that are not learned from; the largest strength is chosen of those that are best on those held out."""
    (train, labels), (test, test_labels) = drawn(300, classes, 0), drawn(400, classes, 1)
    numbers = (labels - 2) // 3
    for strength, linear in zip(STRENGTHS, probe.fit_whole(train, numbers, STRENGTHS), strict=True):
        expected = of_scikit_learn(train, numbers, strength).predict(test)
        assert np.mean(linear.predicted(test) == expected) >= 0.99, strength
    held = probe.held_out(labels, 0)
    scores = {s: of_scikit_learn(train[~held], labels[~held], s).score(train[held], labels[held]) for s in STRENGTHS}
    chosen = max(scores, key=lambda strength: (scores[strength], strength))
    assert probe.chosen_l2(train, numbers, STRENGTHS, probe.fit_whole, 0) == chosen
    expected = of_scikit_learn(train, labels, chosen).score(test, test_labels)
    found = probe.accuracy(train, labels, test, test_labels, l2=STRENGTHS)
    assert found == pytest.approx(expected, abs=0.005) and 1 / classes < found < 1


def test_mini_batches_find_the_weights_of_scikit_learn(caplog):
    (train, labels), (test, test_labels) = drawn(300, 3, 0), drawn(400, 3, 1)
    numbers = (labels - 2) // 3
    for strength, linear in zip(
        (10.0, 300.0), probe.fit_by_batches(train, numbers, (10.0, 300.0), seed=0), strict=True
    ):
        expected = of_scikit_learn(train, numbers, strength)
        assert np.mean(linear.predicted(test) == expected.predict(test)) >= 0.99, strength
        np.testing.assert_allclose(linear.weights, expected[-1].coef_.T, atol=0.02)
    caplog.set_level(logging.INFO)
    whole, batches = (
        probe.accuracy(train, labels, test, test_labels, l2=(10.0,), most_values=most)
        for most in (train.size, train.size - 1)
    )
    assert batches == pytest.approx(whole, abs=0.01)
    assert "as a whole, by scikit-learn" in caplog.text and "by mini-batches, in JAX" in caplog.text


def test_a_tenth_of_each_class_is_held_out_but_not_its_last_image():
    labels = np.repeat([0, 1, 2, 3], [100, 34, 2, 1])
    held = probe.held_out(labels, 7)
    assert np.bincount(labels[held], minlength=4).tolist() == [10, 3, 1, 0]
    assert np.array_equal(held, probe.held_out(labels, 7)) and not np.array_equal(held, probe.held_out(labels, 8))


def test_wrong_arrays():
    features, labels = np.arange(12.0).reshape(4, 3), np.arange(4)
    with pytest.raises(UserError, match="no class has a second image, so that none can be held out to choose l2"):
        probe.accuracy(features, labels, features, labels, l2=STRENGTHS)
    assert probe.accuracy(features, labels, features, labels, l2=(1e-3,)) == 1
    with pytest.raises(UserError, match="all images learned from have the one class 0"):
        probe.accuracy(features, labels * 0, features, labels, l2=STRENGTHS)
    with pytest.raises(UserError, match="test_features are not finite in 4 of 4 rows"):
        probe.accuracy(features, labels, features + np.inf, labels, l2=STRENGTHS)


def test_an_evaluation_for_any_batches_and_devices(small):
    keys = {"kind": "probe", "l2": STRENGTHS}
    data = {"data.num_examples": 200}
    expected = evaluations.measures(evaluations.config(small, data, probe={**keys, "batch_size": 16}))["probe"]
    assert expected.keys() == {"accuracy", "examples"} and expected["examples"] == 50
    config = evaluations.config(small, data, probe={**keys, "batch_size": 7})
    assert evaluations.measures(config, devices=1)["probe"] == pytest.approx(expected, abs=1e-9)
    with pytest.raises(UserError, match="config.evaluations.probe: a linear probe tells classes apart, and all images"):
        evaluations.measures(evaluations.config(small, probe={**keys, "train_split": "train[:1]"}))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"train_split": "valid"}, "config.evaluations.probe.train_split is 'valid': synthetic images have no split"),
        ({"max_labels": 0}, "config.evaluations.probe.max_labels is 0"),
        ({"l2": ()}, "config.evaluations.probe.l2 is (); it must hold at least 1"),
        ({"draws": 2}, "nothing reads config.evaluations.probe.draws=2: it needs"),
        ({"split": "train"}, "probe has no image left to test on, because it learns from all images of train"),
    ],
)
def test_a_mistake_is_found_before_the_run(small, tmp_path, keys, said):
    refused(evaluations.config(small, probe={"kind": "probe", **keys}), tmp_path / "run", said)


@pytest.mark.slow
def test_digits_by_an_untrained_model(small, tmp_path):
    """A probe of random features is better than few shots of them."""
    sections = {
        "probe": {"kind": "probe", "l2": STRENGTHS},
        "near": {"kind": "knn"},
        "few": {"kind": "fewshot", "shots": (1,)},
    }
    digits = {"data.name": "digits", "data.data_dir": str(tmp_path), "data.num_examples": 1024, "data.num_classes": 10}
    model = vit_jax.create("Ti/4", num_classes=0, **evaluations.MODEL)
    found = evaluations.measures(evaluations.config(small, digits, **sections), model=model)
    assert found["probe"]["examples"] == found["near"]["examples"] == found["few"]["examples"] == 297
    assert found["few"]["1shot"] < found["near"]["10nn"] and found["few"]["1shot"] < found["probe"]["accuracy"]
