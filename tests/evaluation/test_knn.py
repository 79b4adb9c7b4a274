"""Nearest neighbours: scikit-learn's classifier, blocks and devices, and wrong input."""

import jax
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from helpers import evaluations
from helpers.folders import refused, write_images
from vit_jax import UserError, sharding
from vit_jax import config as config_lib
from vit_jax.evaluation import knn

FOLDER = {"data.name": "folder", "data.num_examples": 1024, "data.num_classes": 10}


def drawn(images, classes, seed, width=16):
    """Returns features that tell most images apart, and classes."""
    centres = np.random.default_rng(99).normal(size=(classes, width))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    return (centres[labels] + 1.5 * rng.normal(size=(images, width))).astype(np.float32), labels


@pytest.mark.parametrize("devices", [1, 8])
def test_the_accuracies_of_scikit_learn(devices, monkeypatch):
    """The images fill several blocks, the last of each kind not whole, and one feature is zero."""
    monkeypatch.setattr(knn, "_TESTS", 40)
    monkeypatch.setattr(knn, "_LEARNED", 70)
    train, train_labels = drawn(203, 7, 0)
    test, test_labels = drawn(101, 7, 1)
    train[5] = 0
    k = (1, 10, 20, 100)
    mesh = sharding.make_mesh(config_lib.Config().mesh, jax.devices()[:devices])
    found = knn.accuracies(train, train_labels, test, test_labels, num_classes=7, k=k, mesh=mesh)
    for count, accuracy in zip(k, found, strict=True):
        other = KNeighborsClassifier(
            count, weights=lambda distance: np.exp((1 - distance) / 0.07), metric="cosine", algorithm="brute"
        )
        expected = other.fit(train.astype(np.float64), train_labels).score(test, test_labels)
        assert accuracy == pytest.approx(expected, abs=1e-12), count
    assert len(set(found)) > 1 and min(found) > 0.3


def test_neighbours_and_their_similarities(monkeypatch):
    monkeypatch.setattr(knn, "_LEARNED", 32)
    (train, _), (test, _) = drawn(90, 3, 0), drawn(20, 3, 1)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train.astype(float), test.astype(float))]
    expected = unit[1] @ unit[0].T
    similarities, numbers = knn.neighbours(train, test, 50)  # more than a block has
    np.testing.assert_array_equal(numbers, np.argsort(-expected, axis=1)[:, :50])
    np.testing.assert_allclose(similarities, np.take_along_axis(expected, numbers, axis=1), atol=1e-6)


def test_equally_near_images_go_by_number():
    train = np.ones((6, 4), np.float32)
    _, numbers = knn.neighbours(train, train[:1], 4)
    assert numbers.tolist() == [[0, 1, 2, 3]]


def test_wrong_arrays():
    features, labels = np.ones((4, 3)), np.arange(4) % 2
    with pytest.raises(UserError, match="k is 5, and there are 4 images to be neighbours"):
        knn.accuracies(features, labels, features, labels, num_classes=2, k=(1, 5))
    wrong = features.copy()
    wrong[0, 0] = np.nan
    with pytest.raises(UserError, match="train_features are not finite in 1 of 4 rows"):
        knn.accuracies(wrong, labels, features, labels, num_classes=2, k=(1,))


def test_an_evaluation_for_any_batches_and_devices(small):
    keys = {"kind": "knn", "k": (1, 20)}
    data = {"data.num_examples": 200}
    expected = evaluations.measures(evaluations.config(small, data, near={**keys, "batch_size": 16}))["near"]
    assert expected.keys() == {"1nn", "20nn", "examples"} and expected["examples"] == 50
    config = evaluations.config(small, data, near={**keys, "batch_size": 7})
    assert evaluations.measures(config, devices=1)["near"] == pytest.approx(expected, abs=1e-9)


def test_images_that_are_learned_from_are_not_tested(small):
    keys = {"kind": "knn", "k": (1,), "split": "train+test", "train_split": "train[:48]"}
    assert evaluations.measures(evaluations.config(small, near=keys))["near"]["examples"] == 32
    with pytest.raises(UserError, match="near has no image left to test on, because it learns from all images of tra"):
        evaluations.measures(evaluations.config(small, near={**keys, "split": "train[:10]"}))


def test_images_that_can_not_be_read(small, tmp_path, caplog):
    write_images(tmp_path)  # 4 images of each of 4 classes to train on, and 2 to test on
    for part in ("train", "test"):
        min((tmp_path / part / "a").iterdir()).write_bytes(b"no image")
    folder = {**FOLDER, "data.data_dir": str(tmp_path)}
    found = evaluations.measures(evaluations.config(small, folder, near={"kind": "knn", "k": (15,)}))
    assert found["near"]["examples"] == 7
    assert "counts 7 of its 8 images" in caplog.text and "learns from 15 of the 16 images" in caplog.text
    with pytest.raises(UserError, match="near.k has 16, and its train_split train has 15 images that can be read"):
        evaluations.measures(evaluations.config(small, folder, near={"kind": "knn", "k": (16,)}))


def test_a_class_without_an_image_to_learn_from_is_said(small, caplog):
    """The first two synthetic images are of the classes 0 and 1, of four."""
    keys = {"kind": "knn", "k": (1,), "train_split": "train[:2]"}
    assert evaluations.measures(evaluations.config(small, near=keys))["near"]["1nn"] <= 0.5
    assert "tests on 2 classes of which its train_split has no image, such as '2'" in caplog.text


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "config.evaluations.near.k has 100, and its train_split train has 64 images; choose lower"),
        ({"train_split": "valid"}, "config.evaluations.near.train_split is 'valid': synthetic images have no split"),
        ({"split": "valid"}, "synthetic images have no split 'valid'"),
        ({"max_labels": 2}, "is of the kind knn, for which each image has one class, and its max_labels is 2; set"),
        ({"k": ()}, "config.evaluations.near.k is (); it must hold at least 1"),
        ({"k": (0,)}, "config.evaluations.near.k is (0,); it must be above 0"),
        ({"shots": (3,)}, "nothing reads config.evaluations.near.shots=(3,): it needs"),
        ({"kind": "fewshot", "k": (3,)}, "nothing reads config.evaluations.near.k=(3,): it needs"),
    ],
)
def test_a_mistake_is_found_before_the_run(small, tmp_path, keys, said):
    refused(evaluations.config(small, near={"kind": "knn", **keys}), tmp_path / "run", said)
