"""What a real kernel shows: figures, bars and errors; and how it interrupts a training, which goes on later."""

import json

import pytest

import vit_jax
from helpers.folders import checkpoints, lines
from helpers.kernel import kernel, shown, texts

WIDGET = "application/vnd.jupyter.widget-view+json"
BAR = """
from vit_jax import progress
with progress.shown("counting", 3) as count:
    count(3)
"""
STOP = """
import signal, time, types
from vit_jax.training.stop import Stop
before = signal.getsignal(signal.SIGINT)
stop = Stop(types.SimpleNamespace(count=1, request_stop=lambda: None))
stop.saves = True
try:
    with stop:
        print("ready", flush=True)
        while stop.received is None:
            time.sleep(0.01)
        print(stop.name, "asks to save", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("ended at once;", signal.getsignal(signal.SIGINT) is before)
"""
TRAIN = "import small, vit_jax; vit_jax.train(small.get_config(), {folder!r})"


def test_what_a_kernel_shows():
    with kernel() as notebook:
        figure = notebook.run("from vit_jax import figures; import sys; figures.new(1, 1)")
        assert [set(data) for data in shown(figure)] == [{"image/png", "text/plain"}]
        assert texts(notebook.run("print('matplotlib.pyplot' in sys.modules)"), "stdout") == "False\n"
        again = notebook.run("import matplotlib.pyplot; figures.new(1, 1)")  # now IPython knows figures as well
        assert [set(data) for data in shown(again)] == [{"image/png", "text/plain"}]
        error = notebook.run("from vit_jax import UserError; raise UserError('give it another name')")
        assert error == [("error", ["UserError: give it another name"])]
        bar = notebook.run(BAR)
        assert len(shown(bar)) == 1 and WIDGET in shown(bar)[0] and not texts(bar, "stderr")


def test_a_bar_without_ipywidgets_is_text(tmp_path):
    (tmp_path / "ipywidgets.py").write_text("raise ImportError")
    with kernel(tmp_path) as notebook:
        bar = notebook.run(BAR)
    assert not shown(bar) and "counting:   0%" in texts(bar, "stderr") and "IProgress" not in texts(bar, "stderr")


def test_two_interrupts_end_a_cell_and_leave_the_kernel():
    with kernel() as notebook:
        said = texts(notebook.run(STOP, ["ready", "asks to save"]), "stdout")
        assert said.splitlines() == ["ready", "interrupt asks to save", "ended at once; True"]
        assert texts(notebook.run("print(1 + 1)"), "stdout") == "2\n"


@pytest.mark.slow
def test_a_training_that_is_interrupted_goes_on(tmp_path):
    """The same cell continues the run, which ends with the same model as without the interruption."""
    folder = tmp_path / "run"
    slowly = (
        "from vit_jax.training import run; import time; real = run.Run.due\n"
        "def due(self, done, *given):\n"
        "    if done == 5: print('step', done, flush=True); time.sleep(2)\n"
        "    return real(self, done, *given)\n"
        "run.Run.due = due"
    )
    with kernel() as notebook:
        notebook.run(slowly)
        cell = TRAIN.format(folder=str(folder))
        stopped = notebook.run(cell, ["step 5"])
        step = checkpoints(folder)[-1]
        assert step in (5, 6)
        assert f"interrupt: saved step {step} in {folder}; the same call goes on from there" in texts(stopped, "stderr")
        assert stopped[-1] == ("error", [f"Interrupted: saved step {step}"])
        assert any(WIDGET in data for data in shown(stopped))
        resumed = notebook.run(cell)
        assert not [output for output in resumed if output[0] == "error"]
        assert f"going on from the checkpoint of step {step}" in texts(resumed, "stderr")
        assert len(texts(resumed, "stderr").splitlines()) < 20
        assert texts(notebook.run(TRAIN.format(folder=str(tmp_path / "whole"))), "stdout") == "step 5\n"
    assert (folder / "model.npz").read_bytes() == (tmp_path / "whole" / "model.npz").read_bytes()
    assert [line["step"] for line in lines(folder)] == [line["step"] for line in lines(tmp_path / "whole")]
    assert json.loads((folder / "config.json").read_text())["version"] == vit_jax.__version__
