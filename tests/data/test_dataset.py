"""Data sets that are opened with `data.open`, and examples that have several labels or none."""

import dataclasses
import json
import threading

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import vit_jax
from helpers.tfds import write as write_tfds
from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.data import label_file, tfds_source
from vit_jax.errors import UserError
from vit_jax.evaluation.judge import judge

FIRST = {"a.png": "sky;sea", "below/b.png": "sea", "c.png": "", "d.png": "sky; fish;sky"}


def write(folder, labels, header="image,labels"):
    """Writes images of random pixels and their labels.csv."""
    rng = np.random.default_rng(len(labels))
    for name in labels:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).save(folder / name)
    lines = [header, *(f"{name},{classes}" for name, classes in labels.items())]
    (folder / label_file.NAME).write_text("\n".join(lines) + "\n")


@pytest.fixture
def several(tmp_path):
    """Returns the config of images with up to two labels each: four to train on, three to test on."""
    write(tmp_path / "train", FIRST)
    write(tmp_path / "test", {"x.png": "fish", "y.png": "sky;sea", "z.png": ""})
    config = config_lib.default()
    config.data.name, config.data.data_dir, config.data.max_labels = "folder", str(tmp_path), 2
    config.model.image_size, config.global_batch_size, config.task.loss = 8, 4, "sigmoid"
    config.evaluations.test = config_lib.evaluation()
    return config


def named(batch, class_names):
    """Returns the names of each row's classes."""
    return [sorted(class_names[label] for label in row if label >= 0) for row in batch["labels"]]


def test_a_handle_has_its_length_classes_and_examples(folder):
    spec = data.training_spec(config_lib.typed(folder))
    with data.open(spec) as dataset:
        assert (len(dataset), dataset.class_names) == (9, ("cat", "dog", "eel"))
        found = list(dataset.examples(4))
        assert [len(batch["index"]) for batch in found] == [4, 4, 4]
        assert np.concatenate([batch["index"] for batch in found]).tolist() == [*range(9), -1, -1, -1]
        endless = dataset.batches(4, start_step=2)
        np.testing.assert_array_equal(next(endless)["index"], next(data.batches(folder, start_step=2))["index"])


def test_a_spec_needs_no_config(folder, tmp_path):
    spec = data.Spec("folder", "test", str(tmp_path), size=(6, 10), crop="centre", shorter_side=8, max_labels=0)
    with data.open(spec) as dataset:
        (batch,) = dataset.examples(8)
    assert batch["image"].shape == (8, 6, 10, 3) and batch["mask"].sum() == len(dataset) == 6
    assert sorted(batch) == ["image", "index", "mask"]
    with pytest.raises(UserError, match="shorter_side=5 is smaller"):
        data.open(dataclasses.replace(spec, shorter_side=5))


def test_threads_are_started_once_and_end_with_the_handle(folder):
    before = {thread for thread in threading.enumerate() if thread.name.startswith("data")}
    dataset = data.open_evaluation(folder, "test")
    first = list(dataset.examples(2))
    threads = {thread for thread in threading.enumerate() if thread.name.startswith("data")} - before
    assert threads
    second = list(dataset.examples(2))
    now = {thread for thread in threading.enumerate() if thread.name.startswith("data")} - before
    assert threads <= now and len(now) <= folder.data.threads
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
    dataset.close()
    assert not any(thread.is_alive() for thread in now)


def test_worker_processes_are_kept_between_evaluations(folder):
    folder.data.workers = 1
    with data.open_evaluation(folder, "test") as dataset:
        expected = list(data.open_evaluation(folder, "test").examples(3))
        for _ in range(2):
            for one, other in zip(dataset.examples(3), expected, strict=True):
                np.testing.assert_array_equal(one["image"], other["image"])
            ((_, pool),) = dataset._pools.values()
            processes = set(pool._executor._processes)
        assert processes == set(pool._executor._processes) and len(processes) == 1


def test_an_iteration_that_is_left_does_not_end_the_next(synthetic):
    with data.open_training(synthetic) as dataset:
        left = dataset.examples(4)
        next(left)
        left.close()
        assert sum(batch["mask"].sum() for batch in dataset.examples(4)) == 21


def test_own_classes(folder, tmp_path):
    """A data set that is opened for another kind of evaluation may have other classes than the training set."""
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "fox")
    with pytest.raises(UserError, match="the class 'fox', which is none of the 3 classes trained on"):
        data.open_evaluation(folder, "test")
    dataset = data.open_evaluation(folder, "test", own_classes=True)
    assert dataset.class_names == ("dog", "eel", "fox")
    assert sorted(next(dataset.examples(6))["label"].tolist()) == [0, 0, 1, 1, 2, 2]


def test_several_labels_an_image(several):
    assert data.info(several) == data.Info(4, 3, ("fish", "sea", "sky"))
    dataset = data.open_training(several)
    (batch,) = dataset.examples(4)
    assert batch["labels"].shape == (4, 2) and batch["labels"].dtype == np.int32 and "label" not in batch
    found = dict(zip([dataset._source.describe(i) for i in range(4)], named(batch, dataset.class_names), strict=True))
    assert {path.rpartition("/train/")[2]: classes for path, classes in found.items()} == {
        "a.png": ["sea", "sky"],
        "below/b.png": ["sea"],
        "c.png": [],
        "d.png": ["fish", "sky"],
    }
    assert batch["mask"].all()
    ((test,), names) = (list(data.evaluation_batches(several, "test")), dataset.class_names)
    assert sorted(named(test, names)) == [[], [], ["fish"], ["sea", "sky"]]
    assert test["mask"].sum() == 3  # the fourth row only fills up the batch


def test_labels_reach_the_model(several, tmp_path):
    """A model trains on several labels. An image without a label counts with the sigmoid loss, not with softmax."""
    several.total_steps, several.global_batch_size = 4, 8
    for key, value in {"name": "Ti/4", "width": 16, "depth": 1, "mlp_dim": 32, "num_heads": 2}.items():
        several.model[key] = value
    several.log.tensorboard = False
    values = vit_jax.train(several, tmp_path / "run")
    assert np.isfinite(values["test/loss"])
    (found,) = (dict(m) for _, m in judge([str(tmp_path / "run")], several))
    assert found["test"]["examples"] == 3
    several.task.loss = "softmax"
    (found,) = (dict(m) for _, m in judge([str(tmp_path / "run")], several))
    assert found["test"]["examples"] == 2


def test_some_classes_and_splits_of_them(several):
    several.data.classes = (2, 0)  # the classes sky and fish, in this order
    dataset = data.open_training(several)
    (batch,) = dataset.examples(2)
    assert len(dataset) == 2 and sorted(named(batch, dataset.class_names)) == [["fish", "sky"], ["sky"]]
    several.data.classes, several.data.labels_per_class = (), 1
    with pytest.raises(UserError, match=r"has \d labels; labels_per_class counts one class an image; leave it out"):
        data.open_training(several)


def test_more_labels_than_the_config_says(several):
    path = several.data.data_dir + "/train/" + label_file.NAME
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace("sky;sea", "sky;sea;fish"))
    with pytest.raises(UserError, match=r"has 3 labels, and max_labels of config.data is 2; set it to 3 or more"):
        list(data.open_training(several).examples(4))
    several.data.max_labels = 1
    with pytest.raises(UserError, match=r"config.data.max_labels is 1; set it to 2 or more to read the file"):
        data.open_training(several)


def test_an_evaluations_own_number_of_labels(folder, tmp_path):
    """Training images may have one label and evaluation images several, as in ReaL (2006.07159)."""
    for path in (tmp_path / "test").rglob("*.png"):
        path.unlink()
    write(tmp_path / "test", {"0.png": "cat;eel", "1.png": "", "2.png": "dog"})
    folder.evaluations.test.max_labels = 3
    assert next(data.batches(folder))["label"].shape == (4,)
    (batch,) = data.evaluation_batches(folder, "test")
    assert batch["labels"].shape == (4, 3)


def test_no_labels(folder, tmp_path):
    folder.data.max_labels = 0
    assert data.info(folder) == data.Info(9, 0, ())
    batch = next(data.batches(folder))
    assert "label" not in batch and "labels" not in batch and batch["image"].shape == (4, 8, 8, 3)
    assert data.info(config_lib.default()).num_classes == 10
    config = config_lib.default()
    config.data.max_labels = 0
    assert data.info(config) == data.Info(1500, 0, ()) and data.class_names(config) == ()  # from the catalog
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, path in enumerate(sorted((tmp_path / "train").rglob("*.png"))):
        path.rename(flat / f"{i}.png")
    folder.data.data_dir = str(flat)
    del folder.evaluations.test
    assert data.info(folder).num_examples == 9
    with pytest.raises(UserError, match="config.data.max_labels is 0, and classification learns labels; set it to 1"):
        vit_jax.train(folder, tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the first line of .* is 'nothing'; it must be 'image,labels'"),
        ("file,class\na.png,sky\n", "is 'file,class'"),
        ("image,labels\n", "has no images"),
        ("image,labels\na.png\n", "line 2 of .* is 'a.png'; it takes an image and its labels"),
        ("image,labels\n,sky\n", "line 2 of .* is ',sky'; it takes an image and its labels"),
        ("image,labels\na.png,sky\na.png,sea\n", "line 3 of .* names the image a.png a second time"),
        ("image,labels\nnone.png,sky\n", "names none.png, and no such image lies in the folder"),
        ('image,labels\n"a.png,sky\n', "can't be read as a table"),
    ],
)
def test_what_is_wrong_in_a_file_of_labels(several, tmp_path, text, said):
    (tmp_path / "train" / label_file.NAME).write_text(text)
    with pytest.raises(UserError, match=said):
        data.open_training(several)


def test_images_without_a_line_are_said(several, tmp_path, caplog):
    lines = (tmp_path / "train" / label_file.NAME).read_text().splitlines()
    (tmp_path / "train" / label_file.NAME).write_text("\n".join(lines[:-1]))
    assert data.info(several).num_examples == 3
    assert "1 images have no line in labels.csv and are left out, such as d.png" in caplog.text


def test_a_run_goes_on_with_the_same_labels_only(several, tmp_path):
    before = json.loads(json.dumps(data.describe(several)))
    path = tmp_path / "train" / label_file.NAME
    path.write_text(path.read_text().replace("sky; fish;sky", "fish"))
    assert data.differences(before, data.describe(several))


@pytest.mark.parametrize(("key", "expected"), [("labels", [(0, 2), (), (1,)]), ("label", [(0,), (1,), (2,)])])
def test_labels_of_tfds(tmp_path, key, expected):
    one = tfds.features.ClassLabel(names=["a", "b", "c"])
    features = {
        "image": tfds.features.Image(shape=(4, 4, 3)),
        key: tfds.features.Sequence(one) if key == "labels" else one,
    }
    rows = [list(row) if key == "labels" else row[0] for row in expected]
    images = [np.full((4, 4, 3), 60 * number, np.uint8) for number in range(3)]
    examples = [{"image": image, key: row} for image, row in zip(images, rows, strict=True)]
    write_tfds(tmp_path, "tiny", features, {"train": examples})
    source = tfds_source.TfdsSource("tiny", str(tmp_path), "train")
    assert source.class_names == ("a", "b", "c")
    assert sorted(source.labels(i) for i in range(3)) == sorted(expected)
    without = tfds_source.TfdsSource("tiny", str(tmp_path), "train", labelled=False)
    assert without.class_names == () and without[0]["labels"] == ()
