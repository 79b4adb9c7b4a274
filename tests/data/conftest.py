"""Fixtures of the tests of the data pipeline. All files are written to temporary folders."""

import numpy as np
import pytest
from PIL import Image

from vit_jax import config as config_lib


@pytest.fixture(scope="session")
def tfds_dir(tmp_path_factory):
    """Returns the folder in which the embedded data sets are prepared, once per session."""
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def digits(tfds_dir):
    """Returns a config of the digits, at 8 pixels per side, with the evaluation `test`."""
    config = config_lib.default()
    config.data.name, config.data.data_dir = "digits", tfds_dir
    config.model.image_size, config.global_batch_size = 8, 64
    config.evaluations.test = config_lib.evaluation()
    return config


@pytest.fixture
def synthetic():
    """Returns a config with 21 synthetic training images of 3 classes."""
    config = config_lib.default()
    config.data.name, config.data.num_examples, config.data.num_classes = "synthetic", 21, 3
    config.model.image_size, config.global_batch_size = (6, 8), 4
    config.evaluations.test = config_lib.evaluation()
    return config


@pytest.fixture
def folder(tmp_path):
    """Returns the config of an image folder with 9 training and 6 test images of the classes cat, dog and eel."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog", "eel"):
            place = tmp_path / split / name
            place.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).save(place / f"{i}.png")
    config = config_lib.default()
    config.data.name, config.data.data_dir = "folder", str(tmp_path)
    config.model.image_size, config.global_batch_size = 8, 4
    config.evaluations.test = config_lib.evaluation()
    return config
