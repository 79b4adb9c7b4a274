"""A run is only resumed with the data that it began with."""

import json
import logging
import os
import shutil
import signal
import types

import pytest
from PIL import Image

import vit_jax
from helpers.folders import contents, write_images
from vit_jax import UserError, data
from vit_jax.training import identity, run


@pytest.fixture(scope="module")
def begun(small, tmp_path_factory):
    """Returns a folder with images and a run on them that was stopped after two of four steps, and the config."""
    root = tmp_path_factory.mktemp("begun")
    write_images(root / "images")
    shutil.copytree(root / "images", root / "before")
    changes = {"data.name": "folder", "data.data_dir": str(root / "images"), "data.num_examples": 1024,
               "data.num_classes": 10, "total_epochs": 4.0, "checkpoint.every_steps": 1}  # fmt: skip
    config, make = small(changes), run.make_step

    def stopping(*args):
        step, calls = make(*args), []

        def compiled(*values):
            run = step.lower(*values).compile()

            def call(*state_and_batch):
                calls.append(1)
                if len(calls) == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                return run(*state_and_batch)

            return types.SimpleNamespace(compile=lambda: call)

        return types.SimpleNamespace(lower=compiled)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "make_step", stopping)
        with pytest.raises(SystemExit):
            vit_jax.train(config, root / "run")
    return root, config


@pytest.fixture
def images(begun):
    root, _ = begun
    yield root / "images"
    shutil.rmtree(root / "images", ignore_errors=True)
    shutil.copytree(root / "before", root / "images")


@pytest.fixture
def config(begun):
    return begun[1]


@pytest.fixture
def stopped(begun, tmp_path):
    shutil.copytree(begun[0] / "run", tmp_path / "run")
    return tmp_path / "run"


def test_is_recorded_and_goes_on(config, stopped, caplog):
    recorded = json.loads((stopped / "config.json").read_text())
    assert recorded["data"]["class_names"] == list("abcd")
    assert recorded["data"]["num_examples"] == 16
    assert recorded["data"]["parts"][0]["digest"]
    with caplog.at_level(logging.INFO, "vit_jax"):
        vit_jax.train(config, stopped)
    assert "going on from the checkpoint of step 2" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert json.loads((stopped / "config.json").read_text())["data"] == recorded["data"]


def remove_images(images):
    for path in (images / "train" / "b").iterdir():
        path.unlink()
    Image.new("RGB", (8, 8)).save(images / "train" / "b" / "new.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda images: (images / "train" / "a").rename(images / "train" / "z"),
         ["the classes a are gone", "the classes z are new"]),
        (remove_images, ["16 training images before, 13 now"]),
        (lambda images: next((images / "train" / "b").iterdir()).rename(images / "train" / "b" / "new.png"),
         ["other files or labels"]),
        (lambda images: shutil.rmtree(images / "test"), ["0 images held out for testing before, 2 now"]),
    ],
)  # fmt: skip
def test_refuses_other_data(config, images, stopped, change, said):
    change(images)
    before = contents(stopped)
    with pytest.raises(UserError) as error:
        vit_jax.train(config, stopped)
    assert all(words in str(error.value) for words in [*said, str(stopped), "another --workdir"]), error.value
    assert "\n" not in str(error.value)
    assert contents(stopped) == before


def test_of_an_earlier_version(config, stopped, caplog):
    path = stopped / "config.json"
    recorded = json.loads(path.read_text())
    found = recorded.pop("data")
    path.write_text(json.dumps(recorded))
    vit_jax.train(config, stopped)
    assert "did not record its training data" in caplog.text
    assert json.loads(path.read_text())["data"] == found


@pytest.mark.parametrize("value", ["3", "{}", '{"num_examples": 16, "class_names": [1], "parts": []}'])
def test_a_damaged_record(config, stopped, value):
    path = stopped / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "data": json.loads(value)}))
    with pytest.raises(UserError, match=r"config.json does not describe a run"):
        vit_jax.train(config, stopped)


def test_a_complete_run_needs_no_data(config, images, stopped, caplog):
    vit_jax.train(config, stopped)
    shutil.rmtree(images)
    with caplog.at_level(logging.INFO, "vit_jax"):
        assert vit_jax.train(config, stopped) == {}
    assert "complete" in caplog.text


class Second:
    """Replaces `Hosts` in a second process, which compares its values with those of the first."""

    def __init__(self):
        self.first = None

    def require_same(self, what, value, mend):
        self.first = self.first or value
        if value != self.first:
            raise UserError(f"{what} is another one here; {mend}")


def test_other_files_in_another_process(config, images, tmp_path):
    hosts = Second()
    assert identity.checked(config, tmp_path, {}, hosts) == data.describe(config)
    identity.checked(config, tmp_path, {}, hosts)
    next((images / "train" / "b").iterdir()).rename(images / "train" / "b" / "new.png")
    said = r"the training data is another one here; here are 16 images of 4 classes \(digest [0-9a-f]{12}\); give all"
    with pytest.raises(UserError, match=said):
        identity.checked(config, tmp_path, {}, hosts)
