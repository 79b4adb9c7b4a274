"""The small config of every test here, and a batch for it."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def small_config(small):
    """Makes a config with all that is random switched on, and steps small enough for rounding to stay small."""
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
    """Without anything random: compiles faster, for tests of other things."""
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
