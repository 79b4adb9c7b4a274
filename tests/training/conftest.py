"""Fixtures of the tests of training: small configs, a batch for them, and the folders of whole runs."""

import numpy as np
import pytest

import vit_jax
from helpers.folders import lines
from helpers.processes import run


@pytest.fixture(scope="session")
def small_config(small):
    """Returns a function that makes a config with dropout and all augmentations.

    Its learning rate is so small that rounding errors stay small over the steps.
    """
    changes = {
        "total_steps": 20,
        "model.num_classes": 4,
        "model.attention_dropout": 0.1,
        "optimizer.learning_rate": 1e-3,
        "optimizer.grad_clip_norm": 1.0,
        "optimizer.average": 0.0,
        "schedule.warmup_steps": 2,
    }
    return lambda: small(changes)


@pytest.fixture
def config(small_config):
    return small_config()


@pytest.fixture
def plain(config):
    """Returns the config without dropout, augmentation and warm-up, which compiles faster."""
    for key in ("dropout", "attention_dropout", "drop_path"):
        config.model[key] = 0.0
    config.augmentation.flip, config.augmentation.rotate_degrees, config.augmentation.mixup = False, 0.0, 0.0
    config.schedule.warmup_steps = 0
    return config


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (16, 8, 8, 3), np.uint8),
        "label": np.eye(4, dtype=np.float32)[rng.integers(0, 4, 16)],
        "mask": np.ones(16, np.float32),
    }


@pytest.fixture(scope="session")
def finished(small, tmp_path_factory):
    """Returns the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("run") / "deep" / "inside"
    returned = vit_jax.train(small(), folder)
    last = lines(folder)[-1]
    assert {key: last[key] for key in returned} == returned
    return folder


@pytest.fixture(scope="session")
def four(start, tmp_path_factory):
    """Returns the folder of an uninterrupted run of four processes with one device each."""
    folder = tmp_path_factory.mktemp("four") / "run"
    said = run(start, folder, 4, 1)
    assert "step 12 of 12" in said[0]
    assert not any("step 12" in text for text in said[1:])  # only process 0 logs
    return folder
