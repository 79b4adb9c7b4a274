"""Fixtures of the tests of training: small configs, and a batch for them."""

import numpy as np
import pytest


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
