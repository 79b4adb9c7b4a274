"""What a run refuses to start with: it says so in one sentence before the first step, and leaves nothing."""

import json
import logging
import pathlib

import pytest

import vit_jax
from helpers.folders import refused, write_images


@pytest.fixture
def images(tmp_path):
    """Returns the changes of the config that make it use a folder with images of four classes."""
    write_images(tmp_path / "images")
    return {"data.name": "folder", "data.data_dir": str(tmp_path / "images"), "data.num_examples": 1024,
            "data.num_classes": 10}  # fmt: skip


@pytest.mark.parametrize("below", ["", "below/it"])
def test_refuses_a_workdir_that_is_a_file(small, tmp_path, below):
    (tmp_path / "file").write_text("mine")
    refused(small(), tmp_path / "file" / below, str(tmp_path / "file"), "is a file")


def test_workdir_that_cannot_be_made(small):
    refused(small(), pathlib.Path("/proc/run"), "/proc/run", "can't be written")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.name": "C/16"}, "unknown variant 'C/16'"),
        ({"model.patch_size": 3}, "3 pixels does not divide the image's height of 8"),
        ({"global_batch_size": 12}, "config.global_batch_size=12 does not divide over 8 devices; take 16"),
        ({"evaluations.test.batch_size": 4}, "config.evaluations.test.batch_size=4 does not divide over 8 devices"),
        ({"mesh.data": 3}, "does not multiply to the 8 devices"),
        ({"data.num_examples": 0}, "config.data.num_examples"),
        ({"data.split": "trian"}, "no split 'trian'"),
        ({"evaluations.test.split": "tset"}, "no split 'tset'"),
        ({"evaluations.test.name": "cifar10"}, "tfds build cifar10"),
        ({"optimizer.freeze": ("(",)}, "no regular expression"),
        ({"optimizer.freeze": ("nothing",)}, "'nothing', which finds no parameter"),
    ],
)
def test_fails_before_the_first_step_and_leaves_nothing(small, tmp_path, monkeypatch, changes, said):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    refused(small(changes), tmp_path / "run", said)


@pytest.mark.parametrize(("name", "said"), [("cifar10", "tfds build cifar10"), ("cifra10", "cifar10")])
def test_missing_data_set(small, tmp_path, name, said):
    changes = {"data.name": name, "data.data_dir": str(tmp_path), "data.num_examples": 1024, "data.num_classes": 10}
    refused(small(changes), tmp_path / "run", name, str(tmp_path), said)


def test_empty_image_folder(small, images, tmp_path):
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    refused(small(images), tmp_path / "run", "there are no images", str(tmp_path / "images"))


@pytest.mark.slow
def test_corrupt_images(small, images, tmp_path, caplog):
    bad = sorted((tmp_path / "images" / "train").rglob("*.png"))[:2]
    for path in bad:
        path.write_text("no image")
    refused(small({**images, "data.corrupt": "fail"}), tmp_path / "run", "can't be read", str(tmp_path / "images"))
    with caplog.at_level(logging.WARNING, "vit_jax.data"):
        vit_jax.train(small(images), tmp_path / "run")
    assert all(str(path) in caplog.text for path in bad)
    assert "corrupt so far: 2" in caplog.text
    assert json.loads((tmp_path / "run" / "model.json").read_text())["class_names"] == list("abcd")


def test_what_is_cheap_is_checked_first(small, tmp_path):
    """If the data set is missing too, the error is still about the wrong model, batch size or `init_from`."""
    missing = {"data.name": "imagenet2012", "data.num_examples": 1024, "data.num_classes": 10,
               "data.data_dir": str(tmp_path), "total_epochs": 1.0}  # fmt: skip
    for changes, message in (
        ({"model.name": "Q/16"}, "unknown variant 'Q/16'"),
        ({"global_batch_size": 12}, "config.global_batch_size=12 does not divide over 8 devices"),
        ({"init_from": str(tmp_path / "none.npz")}, "there is no checkpoint"),
    ):
        refused(small(missing | changes), tmp_path / "run", message)


def test_an_evaluations_name_can_not_hide_the_trainings(small, tmp_path):
    for name in ("train", "a/b", ""):
        config = small()
        config.evaluations[name] = config.evaluations.test
        refused(config, tmp_path / "run", f"config.evaluations has the name {name!r}", "take another")
    refused(small({"evaluations.test.kind": "guess"}), tmp_path / "run", "kind is 'guess'", "classification")
