"""Least squares from features: beside scikit-learn's, and images left out beside fits without them."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from vit_jax.evaluation import least_squares
from vit_jax.evaluation.least_squares import LeastSquares

CLASSES = 4
SHAPES = [(60, 20), (24, 40), (21, 20)]  # more images than features, fewer, and as many as columns


def drawn(images, features):
    rng = np.random.default_rng(0)
    labels = np.arange(images) % CLASSES
    x = rng.normal(2.0, 1.5, (images, features)) + rng.normal(size=(CLASSES, features))[labels]
    return x.astype(np.float32), labels


def theirs(x, labels, l2):
    """Returns scikit-learn's regression onto 1 and -1, with a constant column, of standardised features."""
    targets = 2 * np.eye(CLASSES)[labels] - 1
    return Ridge(alpha=l2, fit_intercept=False).fit(np.column_stack([x, np.full(len(x), 100.0)]), targets)


@pytest.mark.parametrize("l2", [1.0, 64.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_weights_are_scikit_learns(shape, l2, monkeypatch):
    monkeypatch.setattr(least_squares, "_ROWS", 128)  # so that the new images are several parts
    x, labels = drawn(*shape)
    fit = LeastSquares.of(x, labels, CLASSES)
    scaler = StandardScaler().fit(x.astype(np.float64))
    other = theirs(scaler.transform(x), labels, l2)
    np.testing.assert_allclose(fit.weights(l2), other.coef_.T, atol=3e-3 / l2**0.5)
    new, _ = drawn(300, shape[1])
    scores = other.predict(np.column_stack([scaler.transform(new), np.full(len(new), 100.0)]))
    assert np.mean(fit.predicted(new, l2) == scores.argmax(1)) > 0.99


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_left_out_is_predicted_from_all_others(shape, monkeypatch):
    monkeypatch.setattr(least_squares, "_ROWS", 16)  # so that there are several parts, the last of them not full
    x, labels = drawn(*shape)
    fit = LeastSquares.of(x, labels, CLASSES)
    scaled = StandardScaler().fit_transform(x.astype(np.float64))
    columns = np.column_stack([scaled, np.full(len(x), 100.0)])
    targets = 2 * np.eye(CLASSES)[labels] - 1
    for l2 in (1.0, 32.0):
        others = [np.arange(len(x)) != i for i in range(len(x))]
        scores = np.concatenate(
            [theirs(scaled[kept], labels[kept], l2).predict(columns[~kept]) for kept in others]
        )  # (images, classes)
        accuracy, error = fit.left_one_out(l2)
        assert accuracy == pytest.approx(np.mean(scores.argmax(1) == labels), abs=1.01 / len(x))
        assert error == pytest.approx(np.mean((scores - targets) ** 2), rel=2e-2)


def test_features_that_never_change_are_no_obstacle():
    x, labels = drawn(60, 20)
    x = np.concatenate([x, np.full((60, 3), 0.7, np.float32)], axis=1)
    fit = LeastSquares.of(x, labels, CLASSES)
    assert np.isfinite(fit.weights(1e-6)).all() and np.isfinite(fit.left_one_out(1e-6)).all()
    assert np.array_equal(fit.predicted(x, 1.0), LeastSquares.of(x[:, :20], labels, CLASSES).predicted(x[:, :20], 1.0))
