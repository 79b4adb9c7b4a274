"""Few-shot evaluation: goldens, what it learns, what it must not depend on, and wrong input."""

import jax
import numpy as np
import pytest
from flax import nnx

import vit_jax
from helpers import evaluations, processes
from helpers.evaluations import MODEL
from helpers.folders import lines, numbers, refused, write_images
from vit_jax import UserError
from vit_jax import config as config_lib
from vit_jax.evaluation import fewshot
from vit_jax.evaluation.judge import judge
from vit_jax.evaluation.least_squares import LeastSquares
from vit_jax.tasks import TASKS, Task

STRENGTHS = (0.25, 1.0, 4.0)


def few(small, changes=(), **keys):
    """Returns the config of tests/small.py with the evaluation `few` alone."""
    return evaluations.config(small, changes, few={"kind": "fewshot", **keys})


def measures(config, **keywords):
    return evaluations.measures(config, **keywords)["few"]


@pytest.mark.parametrize("name", ["more_features_than_points", "more_points_than_features"])
def test_goldens(goldens, name):
    """The accuracies are the same, to the image.

    With more features than points and the strength 2, rounding decides one image of 400: it is right by the float32
    eigenvectors of JAX, from which the golden comes, and wrong in float64.
    """
    golden = np.load(goldens / f"fewshot_{name}.npz")
    arrays = (golden[f"{part}_{what}"] for part in ("train", "test") for what in ("features", "labels"))
    l2 = 2.0 ** golden["l2_log2"]
    found = fewshot.accuracies(*arrays, num_classes=int(golden["num_classes"]), l2=l2)
    assert found.shape == l2.shape and found.dtype == np.float64
    np.testing.assert_allclose(found, golden["accuracy"], atol=1e-6)


@pytest.mark.parametrize(("apart", "low", "high"), [(20.0, 1.0, 1.0), (0.0, 0.05, 0.15)])
def test_features_that_tell_classes_apart_and_features_that_do_not(apart, low, high):
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 10
    features = rng.normal(size=(1000, 32)) + apart * rng.normal(size=(10, 32))[labels]
    found = fewshot.accuracies(features[:50], labels[:50], features[50:], labels[50:], num_classes=10, l2=[1.0, 1e3])
    assert np.all((found >= low) & (found <= high)), found


def test_features_that_are_not_finite():
    features, labels = np.ones((4, 3)), np.arange(4) % 2
    features[2, 1] = np.inf
    with pytest.raises(UserError, match="test_features are not finite in 1 of 4 rows"):
        fewshot.accuracies(np.ones((4, 3)), labels, features, labels, num_classes=2, l2=[1.0])


def test_the_strength_is_chosen_without_the_test_images():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    fit = LeastSquares.of(rng.normal(size=(40, 30)) + rng.normal(size=(4, 30))[labels], labels, 4)
    l2 = tuple(2.0**power for power in range(-5, 15))
    merits = [fit.left_one_out(strength) for strength in l2]
    best = max(accuracy for accuracy, _ in merits)
    assert min(accuracy for accuracy, _ in merits) < best  # the choice matters
    _, expected = min((error, strength) for (accuracy, error), strength in zip(merits, l2, strict=True)
                      if accuracy == best)  # fmt: skip
    assert fewshot.chosen_l2(fit, l2, 10) == expected
    assert fewshot.chosen_l2(fit, (4.0, 1.0, 16.0, 2.0), 1) == 2.0  # nothing can be held out: the middle one


def test_the_same_for_any_batches_and_devices(small):
    """Batches of several sizes, not full at the end, on one and on several devices."""
    keys = {"shots": (1, 3), "draws": 2, "l2": STRENGTHS}
    data = {"data.num_examples": 200}
    expected = measures(few(small, data, batch_size=16, **keys))
    assert expected.keys() == {"1shot", "1shot_std", "3shot", "3shot_std", "examples"}
    assert expected["examples"] == 50
    assert measures(few(small, data, batch_size=24, **keys)) == pytest.approx(expected, abs=1e-9)
    assert measures(few(small, data, batch_size=7, **keys), devices=1) == pytest.approx(expected, abs=1e-9)


def test_one_draw_has_no_deviation(small):
    assert measures(few(small, shots=(2,), draws=1)).keys() == {"2shot", "examples"}


def test_shots_are_not_tested(small):
    """Of 64 images of 4 classes 2 shots of each class leave 56; the other split loses none."""
    assert measures(few(small, split="train", shots=(2,), draws=1))["examples"] == 56
    assert measures(few(small, split="train[32:]+test", train_split="train[:32]", shots=(2,)))["examples"] == 48
    with pytest.raises(UserError, match="no image left to test on, because its 64 shots are all images of train"):
        measures(few(small, split="train", shots=(16,)))


def test_digits_by_an_untrained_model(small, tmp_path):
    """A model without a head, or with one for other classes, is evaluated on a data set that is not the training's."""
    config = few(small, name="digits", data_dir=str(tmp_path), shots=(1, 10), draws=2, batch_size=64)
    for classes in (0, 3):
        vit_jax.save(vit_jax.create("Ti/4", num_classes=classes, **MODEL), tmp_path / f"{classes}.npz")
    found = dict(judge([str(tmp_path / "0.npz"), str(tmp_path / "3.npz")], config))
    headless, other = (values["few"] for values in found.values())
    assert headless == other and headless["examples"] == 297
    assert 0.15 < headless["1shot"] < headless["10shot"] < 1 and 0 < headless["10shot_std"] < 0.1
    config.evaluations.test = config_lib.evaluation()  # reads the head
    with pytest.raises(UserError, match="has 3 classes"):
        list(judge([str(tmp_path / "3.npz")], config))


def test_a_task_with_parameters_of_its_own_is_not_read(small, tmp_path, monkeypatch):
    class WithOwn(Task):
        def modules(self, arch, rngs):
            return nnx.Dict(dense=nnx.Linear(arch.width, 3, rngs=rngs))

    monkeypatch.setitem(TASKS, "classification", WithOwn)
    vit_jax.save(vit_jax.create("Ti/4", num_classes=0, **MODEL), tmp_path / "model.npz")
    config = few(small, shots=(2,))
    ((_, found),) = judge([str(tmp_path / "model.npz")], config)
    assert found["few"]["examples"] == 16
    config.evaluations.test = config_lib.evaluation()
    with pytest.raises(UserError, match="has 0 classes"):
        list(judge([str(tmp_path / "model.npz")], config))


def test_images_that_can_not_be_read(small, tmp_path, caplog):
    """A shot is replaced by another of its class, and a test image is left out."""
    write_images(tmp_path)  # 4 images of each class to train on, and 2 to test on
    for split_name in ("train", "test"):
        min((tmp_path / split_name / "a").iterdir()).write_bytes(b"no image")
    changes = {"data.name": "folder", "data.data_dir": str(tmp_path), "data.num_examples": 1024, "data.num_classes": 10}
    found = measures(few(small, changes, shots=(1, 3), l2=STRENGTHS))
    assert found["examples"] == 7 and "counts 7 of its 8 images" in caplog.text
    with pytest.raises(UserError, match="learns from 4 images.* has 3 of the class 'a' that can be read; ask for few"):
        measures(few(small, changes, shots=(4,)))
    (tmp_path / "train" / "b").rename(tmp_path / "train" / "e")
    with pytest.raises(UserError, match="tests on the class 'b', of which its train_split train has none"):
        measures(few(small, changes, shots=(1,)))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"shots": (1, 17)}, "learns from 17 images of each class, and the split train of synthetic has 16 of the cla"),
        ({"train_split": "valid"}, "config.evaluations.few.train_split is 'valid': synthetic images have no split"),
        ({"split": "valid"}, "synthetic images have no split 'valid'"),
        ({"max_labels": 2}, "its max_labels is 2; set config.evaluations.few.max_labels to 1"),
        ({"shots": ()}, "config.evaluations.few.shots is (); it must hold at least 1"),
        ({"shots": (5, 0)}, "config.evaluations.few.shots is (5, 0); it must be above 0"),
        ({"l2": ()}, "config.evaluations.few.l2 is (); it must hold at least 1"),
        ({"l2": (0.0,)}, "config.evaluations.few.l2 is (0.0,); it must be at least 1e-06"),
        ({"draws": 0}, "config.evaluations.few.draws is 0; it must be above 0"),
        ({"kind": "classification", "draws": 5}, "nothing reads config.evaluations.few.draws=5: it needs"),
    ],
)
def test_a_mistake_is_found_before_the_run(small, tmp_path, keys, said):
    config = few(small)
    config.evaluations.few.update(keys)
    refused(config, tmp_path / "run", said)


def test_features_of_a_model_that_are_not_finite(small):
    model = vit_jax.create("Ti/4", num_classes=0, **MODEL)
    model.encoder.norm.bias = jax.tree.map(lambda x: x * np.nan, model.encoder.norm.bias)
    with pytest.raises(UserError, match="the evaluation 'few' gets features from the model that are not finite, for"):
        measures(few(small), model=model)


@pytest.mark.slow
def test_in_a_run_that_is_resumed(small, tmp_path):
    """A run writes the measures that `evaluate` finds, and writes them again if it goes on from a checkpoint."""
    config = few(small, {"optimizer.average": 0.0}, shots=(2,), every_steps=6)
    vit_jax.train(config, tmp_path / "run")
    whole = numbers(tmp_path / "run")
    assert [line["step"] for line in whole if "few/2shot" in line] == [6, 12]
    ((_, found),) = judge([str(tmp_path / "run")], config)
    assert found["few"]["2shot"] == pytest.approx(lines(tmp_path / "run")[-1]["few/2shot"])
    (tmp_path / "run" / "checkpoints" / "12").rename(tmp_path / "12")
    (tmp_path / "run" / "model.npz").unlink()
    vit_jax.train(config, tmp_path / "run")
    assert numbers(tmp_path / "run") == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("measure", "flags"),
    [
        ("5shot", ("kind=fewshot", "shots=1,5")),
        ("20nn", ("kind=knn", "k=1,20")),
        ("accuracy", ("kind=probe", "train_split=train")),
    ],
)
def test_several_processes(start, tmp_path, measure, flags):
    """A run of two processes gives the same measures as one of one process with as many devices."""
    flags = [f"--config.evaluations.test.{flag}" for flag in flags]
    for count in (1, 2):
        processes.run(start, tmp_path / str(count), count, 2 // count, *flags)
    assert f"test/{measure}" in lines(tmp_path / "2")[-1]
    processes.agree(tmp_path / "1", tmp_path / "2")
