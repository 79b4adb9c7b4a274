"""Further measures of a classification, and classes that only some images have, against their definitions."""

import shutil

import jax
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

import vit_jax
from helpers import evaluations
from helpers.folders import refused, write_images
from helpers.models import drawn
from vit_jax import UserError, data
from vit_jax.models.functional import split
from vit_jax.tasks import Task
from vit_jax.tasks.registry import TASKS

MORE = ("top5", "class_accuracy", "calibration_error")
SYNTHETIC = {"data.num_examples": 400, "data.num_classes": 8}


def of_test(small, changes=(), **keys):
    return evaluations.config(small, changes, test=keys)


def scored(config, classes, devices=8):
    """Returns the measures of a model with random weights, its logits in float64 and the labels of the images."""
    model = drawn(vit_jax.create("Ti/4", num_classes=classes, **evaluations.MODEL), std=1.0)
    bind, params = split(model)
    measures = evaluations.measures(config, devices, model, params)["test"]
    with data.open_evaluation(config, "test") as dataset:
        (batch,) = dataset.examples(len(dataset))
    logits = jax.jit(lambda images: bind(params)(images))(batch["image"])
    return measures, np.asarray(logits, np.float64), batch["label"]


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def calibration_error(confidence, right):
    """Returns the sum over bins of their share times the distance of accuracy and mean confidence (1706.04599)."""
    error = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_definitions(small, loss):
    config = of_test(small, {**SYNTHETIC, "task.loss": loss}, more_measures=MORE, batch_size=24)
    found, logits, labels = scored(config, 8)
    assert found.keys() == {"accuracy", "loss", "examples", *MORE} and found["examples"] == 100
    predicted = logits.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(np.mean(predicted == labels))
    assert found["top5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=np.arange(8)))
    assert found["class_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    probabilities = softmax(logits) if loss == "softmax" else 1 / (1 + np.exp(-logits))
    expected = calibration_error(probabilities.max(axis=1), predicted == labels)
    assert found["calibration_error"] == pytest.approx(expected, abs=1e-4) and expected > 0.05
    other = of_test(small, {**SYNTHETIC, "task.loss": loss}, more_measures=MORE, batch_size=7)
    assert scored(other, 8, devices=1)[0] == pytest.approx(found, abs=1e-5)


def test_they_change_nothing_else(small):
    found = scored(of_test(small, SYNTHETIC, more_measures=MORE), 8)[0]
    assert scored(of_test(small, SYNTHETIC), 8)[0] == {key: found[key] for key in ("accuracy", "loss", "examples")}


def in_folder(tmp_path):
    """Returns the changes for test images of the classes b and d and, in another folder, of the unknown z, too."""
    write_images(tmp_path)
    for name in ("a", "c"):
        shutil.rmtree(tmp_path / "test" / name)
    other = tmp_path / "other" / "test"
    shutil.copytree(tmp_path / "test", other)
    shutil.copytree(other / "b", other / "z")
    return {"data.name": "folder", "data.data_dir": str(tmp_path), "data.num_examples": 1024, "data.num_classes": 10}


def test_common_classes(small, tmp_path, caplog):
    """Other classes are not predicted, by the accuracy and the loss, and images of unknown classes are left out."""
    caplog.set_level("INFO")
    folder = in_folder(tmp_path)
    keys = {"data_dir": str(tmp_path / "other"), "more_measures": ("class_accuracy",)}
    found, logits, labels = scored(of_test(small, folder, classes="common", **keys), 4)
    assert found["examples"] == 4 and sorted(labels.tolist()) == [1, 1, 3, 3]
    assert "4 of 6 images have a class that is trained on" in caplog.text
    assert "2 of 4 classes have images and may be predicted" in caplog.text
    limited = logits[:, [1, 3]]
    assert found["accuracy"] == np.mean(np.array([1, 3])[limited.argmax(axis=1)] == labels)
    losses = -np.log(softmax(limited)[np.arange(4), (labels == 3).astype(int)])
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    with pytest.raises(UserError, match="has the class 'z', which is none of the 4 classes trained on"):
        scored(of_test(small, folder, **keys), 4)
    for name in ("b", "d"):
        shutil.rmtree(tmp_path / "other" / "test" / name)
    with pytest.raises(UserError, match=r"evaluations.test\) has no image of a class that is trained on: its classes"):
        scored(of_test(small, folder, classes="common", **keys), 4)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"more_measures": ("top5", "ece")}, "more_measures is ('top5', 'ece'); it can hold top5, class_accuracy or"),
        ({"more_measures": ("topp5",)}, "(did you mean top5?)"),
        ({"more_measures": ("top5",)}, "test.more_measures has top5, and of 4 classes no five can be wrong; leave it"),
        ({"more_measures": ("class_accuracy",), "max_labels": 2}, "class_accuracy, for which each image has one class"),
        ({"classes": "own"}, "config.evaluations.test.classes is 'own'; it can be all or common"),
        ({"classes": "common", "kind": "knn"}, "nothing reads config.evaluations.test.classes='common': it needs"),
    ],
)
def test_a_mistake_is_found_before_the_run(small, tmp_path, keys, said):
    refused(of_test(small, **keys), tmp_path / "run", said)


def test_a_task_that_does_not_classify(small, monkeypatch):
    monkeypatch.setitem(TASKS, "classification", Task)
    with pytest.raises(
        UserError, match=r"nothing reads config.evaluations.test.more_measures=\('top5',\), because the"
    ):
        evaluations.measures(of_test(small, SYNTHETIC, more_measures=("top5",)))
