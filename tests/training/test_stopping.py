"""Runs that are stopped by a signal, or that fail, lose no step that counts, and go on to the same end."""

import logging
import os
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

import vit_jax
from helpers.folders import checkpoints as steps
from helpers.folders import lines, numbers
from vit_jax import UserError
from vit_jax.training import run


class Once:
    """Wraps `function`; in its call number `at` (from 1) it calls `act` before `function`."""

    def __init__(self, function, act, at=1):
        self.function, self.act, self.left = function, act, at

    def __call__(self, *args):
        self.left -= 1
        if not self.left:
            self.act()
        return self.function(*args)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def wrap(monkeypatch, name, wrapper):
    """Replaces `run.<name>`, so that `wrapper` wraps its result; for `make_step`, the compiled step."""
    make = getattr(run, name)

    def made(*args):
        found = make(*args)
        if name != "make_step":
            return wrapper(found)
        lowered = lambda *values: types.SimpleNamespace(compile=lambda: wrapper(found.lower(*values).compile()))  # noqa: E731
        return types.SimpleNamespace(lower=lowered)

    monkeypatch.setattr(run, name, made)


@pytest.mark.parametrize(("act", "raised"), [(terminate, SystemExit), (interrupt, KeyboardInterrupt)])
def test_a_signal_before_the_first_step_leaves_nothing(small, tmp_path, monkeypatch, act, raised):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    wrap(monkeypatch, "make_step", lambda step: Once(step, act))
    with pytest.raises(raised) as ended:
        vit_jax.train(small(), tmp_path / "run")
    assert getattr(ended.value, "code", 143) == 143
    assert not (tmp_path / "run").exists()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_ctrl_c_saves_and_says_where_it_goes_on(small, finished, tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO, "vit_jax"):
        wrap(patch, "make_step", lambda step: Once(step, interrupt, at=5))
        with pytest.raises(KeyboardInterrupt, match="saved step 5"):
            vit_jax.train(small(), tmp_path / "run")
    assert f"Ctrl-C: saved step 5 in {tmp_path / 'run'}; the same command goes on from there" in caplog.text
    assert steps(tmp_path / "run")[-1] == 5
    vit_jax.train(small(), tmp_path / "run")
    assert (tmp_path / "run" / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()


@pytest.mark.parametrize(
    ("act", "number"),
    [(terminate, signal.SIGTERM), pytest.param(interrupt, signal.SIGINT, marks=pytest.mark.slow)],
)
def test_a_signal_that_comes_too_late_reaches_the_caller(small, tmp_path, monkeypatch, act, number):
    """In its last step the run is completed, and a handler of the caller's own learns of the signal."""
    wrap(monkeypatch, "make_step", lambda step: Once(step, act, at=2))
    received, before = [], signal.getsignal(number)
    signal.signal(number, lambda *given: received.append(given[0]))
    try:
        vit_jax.train(small({"total_steps": 2}), tmp_path / "run")
    finally:
        signal.signal(number, before)
    assert received == [number] and (tmp_path / "run" / "model.npz").exists()


def test_a_second_ctrl_c_ends_at_once(start, tmp_path):
    """The first Ctrl-C asks to save after the step, which never ends here. The second one kills the process."""
    program = (
        "import os, signal, time; from vit_jax.training.stop import Stop; import types\n"
        "stop = Stop(types.SimpleNamespace(count=1, request_stop=lambda: None)); stop.saves = True\n"
        "with stop:\n"
        "    os.kill(os.getpid(), signal.SIGINT); print(stop.name, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "Ctrl-C\n")


@pytest.mark.parametrize(
    ("name", "wrapper", "saved"),
    [
        ("make_step", lambda step: Once(step, terminate, at=5), 5),
        pytest.param("make_step", lambda step: Once(step, terminate, at=6), 6, marks=pytest.mark.slow),
        ("make_evaluations", lambda found: {"test": Once(found["test"], terminate)}, 7),
        ("make_step", lambda step: Once(step, terminate, at=12), None),
    ],
    ids=["training", "when an evaluation is due", "evaluation", "last step"],
)
def test_sigterm_saves(small, finished, tmp_path, monkeypatch, name, wrapper, saved):
    with monkeypatch.context() as patch:
        wrap(patch, name, wrapper)
        if saved:
            with pytest.raises(SystemExit) as ended:
                vit_jax.train(small(), tmp_path / "run")
            assert ended.value.code == 143
            assert steps(tmp_path / "run")[-1] == saved
            if saved == 6:  # the evaluation takes place when the run is resumed
                assert not any("test/loss" in line for line in lines(tmp_path / "run"))
    vit_jax.train(small(), tmp_path / "run")
    assert (tmp_path / "run" / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()
    assert numbers(tmp_path / "run") == numbers(finished)


@pytest.mark.parametrize(("at", "saved"), [pytest.param(1, [3, 6], marks=pytest.mark.slow), (2, [9, 12])])
def test_an_evaluation_that_fails_loses_no_step(small, finished, tmp_path, monkeypatch, at, saved):
    """The checkpoint comes first, and the evaluation is made when the run is resumed."""

    def fail():
        raise OSError("the network is gone")

    real = run.make_evaluations
    with monkeypatch.context() as patch:
        patch.setattr(run, "make_evaluations", lambda *args: {n: Once(f, fail, at) for n, f in real(*args).items()})
        with pytest.raises(OSError, match="the network is gone"):
            vit_jax.train(small(), tmp_path / "run")
    assert steps(tmp_path / "run") == saved
    vit_jax.train(small(), tmp_path / "run")
    assert numbers(tmp_path / "run") == numbers(finished)
    assert (tmp_path / "run" / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()


@pytest.mark.slow
def test_learning_rate_that_explodes(small, tmp_path):
    with pytest.raises(UserError, match=r"is (nan|inf) at step \d+, and .*config.optimizer.learning_rate"):
        vit_jax.train(small({"optimizer.learning_rate": 1e30}), tmp_path / "run")
    assert not (tmp_path / "run" / "model.npz").exists()


def test_loss_that_is_not_finite_keeps_the_last_checkpoint(small, finished, tmp_path, monkeypatch):
    def spoil(step):
        def spoiled(state, batch):
            done = int(state.step) + 1
            state, outputs = step(state, batch)
            return state, {**outputs, "loss": outputs["loss"] * (np.nan if done == 8 else 1)}

        return spoiled

    with monkeypatch.context() as patch:
        wrap(patch, "make_step", spoil)
        with pytest.raises(UserError, match="train/loss is nan at step 8, and the checkpoint of step 6 is kept"):
            vit_jax.train(small(), tmp_path / "run")
    assert steps(tmp_path / "run") == [3, 6]
    vit_jax.train(small(), tmp_path / "run")
    assert (tmp_path / "run" / "model.npz").read_bytes() == (finished / "model.npz").read_bytes()
