"""The training step with every kind of augmentation: pairs of settings that must agree."""

import numpy as np
import pytest

import vit_jax
from vit_jax import training

EVERYTHING = {
    "augmentation.brightness": 0.4,
    "augmentation.contrast": 0.4,
    "augmentation.saturation": 0.4,
    "augmentation.hue": 0.1,
    "augmentation.autoaugment": True,
    "augmentation.randaugment_layers": 2,
    "augmentation.randaugment_magnitude": 15.0,
    "augmentation.erasing": 0.5,
    "augmentation.cutmix": 1.0,
    "data.repeats": 2,
    "model.num_classes": 4,
    "optimizer.average": 0.0,
}


def losses(config, batch, steps=2):
    """Returns the losses and gradient norms of some steps on the same batch (steps, 2)."""
    resolved = training.resolve(config)
    model = vit_jax.create(**vars(resolved.model), seed=resolved.seed)
    state, step = training.create_state(config, model), training.make_step(config, model)
    rows = []
    for _ in range(steps):
        state, metrics = step(state, batch)
        rows.append([float(metrics["loss"]), float(metrics["gradient_norm"])])
    return np.array(rows)


@pytest.mark.slow
def test_everything_on(small, batch):
    """Sharded equals whole, accumulated equals one batch, and normalised floats equal the pixels they come from."""
    whole = losses(small({**EVERYTHING, "mesh.data": 8}), batch)
    for changes in ({"mesh.data": 2, "mesh.fsdp": 2, "mesh.tensor": 2}, {"mesh.data": 4, "accumulation_steps": 2}):
        np.testing.assert_allclose(losses(small({**EVERYTHING, "mesh.fsdp": 2, **changes}), batch), whole, atol=1e-4)
    floats = {**batch, "image": (batch["image"] / np.float32(127.5) - 1).astype(np.float32)}
    np.testing.assert_allclose(losses(small({**EVERYTHING, "mesh.data": 8}), floats), whole, atol=1e-4)
    without = losses(small({**EVERYTHING, "mesh.data": 8, "augmentation.randaugment_layers": 0,
                            "augmentation.randaugment_magnitude": 10.0}), batch)  # fmt: skip
    assert np.abs(without - whole).max() > 1e-2
