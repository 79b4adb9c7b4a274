"""A second task, with its own parameters, batch, metrics and evaluation, shows that tasks can be replaced."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import vit_jax
from helpers.folders import lines
from vit_jax import config as config_lib
from vit_jax import data, sharding, training
from vit_jax.checkpoints import names
from vit_jax.errors import UserError
from vit_jax.evaluation import judge
from vit_jax.models import flops
from vit_jax.tasks import TASKS, Task
from vit_jax.tasks.task import masked_mean
from vit_jax.training import freeze


class Brightness(Task):
    """Learns to predict the mean of each channel from the model's features, by a linear layer of the task."""

    def modules(self, arch, rngs):
        return nnx.Dict(mlp=nnx.Dict(dense1=nnx.Linear(arch.width, 3, rngs=rngs)))

    def targets(self, batch, num_classes):
        return {"brightness": jnp.asarray(batch["image"], jnp.float32).mean((1, 2)) / 255}

    def _errors(self, model, own, batch, key):
        return ((own.mlp.dense1(model.features(batch["image"], key=key)) - batch["brightness"]) ** 2).sum(-1)

    def loss(self, model, own, batch, key):
        errors = self._errors(model, own, batch, key)
        return masked_mean(errors, batch["mask"]), {"largest": masked_mean(errors * 2, batch["mask"])}

    def measures(self, model, own, batch, key):
        return {"error": self._errors(model, own, batch, None)}


@pytest.fixture
def config(small, monkeypatch):
    monkeypatch.setitem(TASKS, "classification", Brightness)
    return small({"augmentation.mixup": 0.0})


def test_a_run_with_another_task(config, tmp_path, caplog):
    """A run trains, evaluates, and gives the same numbers if it is resumed; model.npz lacks the task's parameters."""
    training.train(config, tmp_path / "whole")
    found = lines(tmp_path / "whole")
    assert {"train/loss", "train/largest", "train/gradient_norm", "test/error"} <= set(found[-1])
    assert "test/accuracy" not in found[-1] and found[-1]["train/loss"] < found[0]["train/loss"]
    np.testing.assert_allclose(found[-1]["train/largest"], 2 * found[-1]["train/loss"], rtol=1e-5)

    vit_jax.load(tmp_path / "whole" / "model.npz")  # raises an error if the file has further parameters
    (tmp_path / "whole" / "checkpoints" / "12").rename(tmp_path / "12")  # so that the run resumes from step 9
    (tmp_path / "whole" / "model.npz").rename(tmp_path / "model.npz")
    loaded = vit_jax.load(tmp_path / "whole")  # loading from the newest checkpoint also gives only the model
    assert not hasattr(loaded, "task")
    training.train(config, tmp_path / "whole")
    first, second = np.load(tmp_path / "model.npz"), np.load(tmp_path / "whole" / "model.npz")
    assert sorted(first.files) == sorted(second.files) and not any("task" in name for name in first.files)
    for name in first.files:
        np.testing.assert_array_equal(first[name], second[name])
    for one, other in zip(found, lines(tmp_path / "whole"), strict=True):
        assert all(one[key] == other[key] for key in one if key.endswith(("/error", "/largest", "/loss")))


@pytest.mark.slow
def test_its_parameters_are_sharded_accumulated_and_named_like_others(config):
    config.mesh.data, config.mesh.fsdp = 2, 4
    resolved = training.resolve(config)
    model = training.model_of(resolved)
    batch = next(iter(data.batches(config, rows=range(16))))
    state, step = training.create_state(config, model), training.make_step(config, model)
    kernel = state.params["task"]["mlp"]["dense1"]["kernel"]
    assert kernel.shape == (16, 3) and kernel.sharding.spec == jax.sharding.PartitionSpec("fsdp", "tensor")
    assert "vit_jax/task/mlp/dense1/kernel" in names.Published(state.params)
    before = np.asarray(kernel)
    results = []
    for accumulation in (1, 4):
        config.accumulation_steps, config.mesh.data, config.mesh.fsdp = accumulation, -1, 1
        if accumulation > 1:
            config.mesh.data, config.mesh.fsdp, config.mesh.tensor = 2, 1, 4
        state, step = training.create_state(config, model), training.make_step(config, model)
        for _ in range(2):  # two steps, because the learning rate of the first is 0
            state, metrics = step(state, batch)
        results.append((np.asarray(state.params["task"]["mlp"]["dense1"]["kernel"]), metrics))
    np.testing.assert_allclose(results[0][0], results[1][0], atol=2e-6)
    np.testing.assert_allclose(results[0][1]["largest"], results[1][1]["largest"], rtol=1e-5)
    assert np.abs(results[0][0] - before).max() > 1e-4


def test_frozen_models_leave_the_tasks_own_to_learn(config):
    config.optimizer.freeze = ("^(?!vit_jax/task)",)
    model = training.model_of(training.resolve(config))
    state = training.create_state(config, model)
    moments = {sharding.path_of(path) for path, x in jax.tree_util.tree_flatten_with_path(state.opt_state)[0] if x.ndim}
    assert moments and all("task/mlp/dense1" in path for path in moments)
    # The operations of a step are counted, too: those of the model's forward pass alone.
    resolved = training.resolve(config)
    assert flops.step(model, 1, freeze.frozen(resolved, model)) == flops.forward(model, 1)
    config.optimizer.freeze = ("^vit_jax/task",)
    assert freeze.frozen(training.resolve(config), model) == {"task/mlp/dense1/kernel", "task/mlp/dense1/bias"}


def test_what_a_task_gets_wrong(config, monkeypatch):
    batch = {"image": np.zeros((16, 8, 8, 3), np.uint8)}
    model = training.model_of(training.resolve(config))
    config.augmentation.mixup = 0.2
    with pytest.raises(UserError, match=r"config.augmentation.mixup mixes labels"):
        training.make_step(config, model)(training.create_state(config, model), batch)
    config.augmentation.mixup = 0.0
    monkeypatch.setattr(Brightness, "loss", lambda *_: (jnp.zeros(()), {"loss": jnp.zeros(())}))
    with pytest.raises(UserError, match=re.escape("the task has a metric 'loss', which is the step's own")):
        training.make_step(config, model)(training.create_state(config, model), batch)


def test_evaluate_has_no_parameters_of_the_task(config, tmp_path):
    """`evaluate` raises an error for a task with parameters of its own, because a model's file does not hold them."""
    path = tmp_path / "model.npz"
    vit_jax.save(vit_jax.create(**vars(config_lib.typed(config).model) | {"num_classes": 4}), path)
    with pytest.raises(UserError, match=r"has parameters of its own, which a model's file does not hold"):
        list(judge.judge([str(path)], config))
