"""Training runs from the outside: the files they leave and what they log."""

import itertools
import json
import logging
import os
import re
import threading
import types

import jax
import numpy as np
import pytest

import vit_jax
from helpers.folders import checkpoints as steps
from helpers.folders import lines
from vit_jax import chips
from vit_jax.checkpoints import store
from vit_jax.models import flops
from vit_jax.training import run


def test_what_a_run_leaves(finished):
    assert sorted(os.listdir(finished)) == ["checkpoints", "config.json", "metrics.jsonl", "model.json", "model.npz"]
    assert steps(finished) == [9, 12]
    config = json.loads((finished / "config.json").read_text())
    assert {"format_version", "version", "devices", "config"} <= set(config)
    assert config["config"]["optimizer"]["b1"] == 0.9
    found = lines(finished)
    assert [line["step"] for line in found] == list(range(1, 13))  # log_steps is limited to a tenth of the run, 1
    names = ("loss", "learning_rate", "gradient_norm", "images_per_second", "data_wait")
    train = {f"train/{name}" for name in names}
    assert all(train <= set(line) and 0 <= line["train/data_wait"] <= 1 for line in found)
    assert [line["step"] for line in found if "test/accuracy" in line and "test/loss" in line] == [6, 12]
    assert all(before["time"] <= after["time"] for before, after in itertools.pairwise(found))


def test_part_of_the_devices_peak(small, tmp_path, monkeypatch):
    """The MFU is logged if the peak of the devices is known. Here the run takes the CPUs for TPUs (v5e)."""
    monkeypatch.setattr(run, "chips", types.SimpleNamespace(of_device=lambda kind: chips.CHIPS["v5e"]))
    config = small({"total_steps": 2})
    vit_jax.train(config, tmp_path / "run")
    last = lines(tmp_path / "run")[-1]
    model = vit_jax.load(tmp_path / "run" / "model.npz")
    operations = last["train/images_per_second"] * flops.step(model, 1)
    assert last["train/mfu"] == pytest.approx(operations / (jax.device_count() * 197e12))


def test_what_a_run_says(small, tmp_path, capsys, monkeypatch):
    """A run in Python logs the same as on the command line.

    It logs a short table of the parameters, the compilation, the loss, and where the model is written.
    """
    for name in ("vit_jax", None):  # pytest sets up log handlers, but a user's program does not
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    vit_jax.train(small({"total_steps": 3, "log_steps": 50}), tmp_path / "run")
    said = capsys.readouterr().err
    for line in ("parameters", "compiling the step", "compiled in", "step 1 of 3: loss", "step 3 of 3", "wrote "):
        assert line in said, said
    assert "encoder/blocks" not in said and not [t for t in said.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", t)]
    assert not logging.getLogger("vit_jax").handlers
    vit_jax.train(small({"total_steps": 1, "log.parameters": "all"}), tmp_path / "other")
    assert "encoder/blocks/mlp/dense1/kernel" in capsys.readouterr().err


def test_trains_in_a_thread(small, finished, tmp_path):
    thread = threading.Thread(target=vit_jax.train, args=(small(), tmp_path / "run"))
    thread.start()
    thread.join()
    assert (tmp_path / "run" / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()


@pytest.mark.slow
def test_checkpoints_hold_the_step_they_are_named_after(small, finished, tmp_path):
    """A checkpoint holds the values of its step, although the next steps reuse the buffers while it is written."""
    config = small({"checkpoint.every_steps": 1, "checkpoint.keep": 100})
    vit_jax.train(config, tmp_path / "run")
    handler = store.ocp.PyTreeCheckpointHandler()
    found = [
        {item: handler.restore(tmp_path / "run" / "checkpoints" / str(step) / item) for item in ("params", "average")}
        for step in range(1, 13)
    ]
    for before, after in itertools.pairwise(found):
        for i in range(2):
            average, new, params = (
                np.asarray(tree["encoder"]["blocks"]["mlp"]["dense1"]["kernel"])[i]
                for tree in (before["average"], after["average"], after["params"])
            )
            np.testing.assert_allclose(new, 0.9 * average + 0.1 * params, atol=1e-6)
    assert (tmp_path / "run" / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()


def test_the_last_measures_are_written_before_the_model(small, tmp_path, monkeypatch):
    """A run with a model is complete. In a bucket a kill after that would lose what was not flushed."""
    done = []

    def watched(owner, name, label):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args: (done.append(label), real(*args))[1])

    watched(run.metrics.Writer, "write", "metrics")
    watched(run.metrics.Writer, "flush", "flush")
    watched(run.model_file, "write", "model")
    vit_jax.train(small(), tmp_path / "run")
    last = done.index("model")
    assert done[last - 2 : last] == ["metrics", "flush"]
