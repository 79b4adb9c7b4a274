"""A run that is killed and started again by the same command ends with the result of an uninterrupted run."""

import contextlib
import json
import pathlib
import random
import re
import signal
import time

import pytest

from helpers.folders import checkpoints, lines

STEPS, EVERY = 32, 4
COMMAND = (
    "main",
    f"--config={pathlib.Path(__file__).parents[1] / 'small.py'}",
    f"--config.total_steps={STEPS}",
    f"--config.checkpoint.every_steps={EVERY}",
    "--config.log_steps=1",
)


def losses(folder):
    return [(line["step"], line["train/loss"], line.get("test/loss")) for line in lines(folder)]


def names(folder):
    return sorted(path.name for path in folder.iterdir() if "tfevents" not in path.name)


def half_written(folder):
    return list((folder / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def logged(count):
    """Returns a function that tells whether a run has logged at least `count` steps since it was `started`."""
    return lambda folder, started: sum(line["time"] > started for line in lines(folder)) >= count


def writing(folder, started):
    """Returns whether a checkpoint is being written.

    A half-written checkpoint of an earlier, killed run does not count: the run removes it before its first step.
    """
    return logged(1)(folder, started) and bool(half_written(folder))


def saved(folder, started):
    """Returns whether the run has completed a checkpoint since it was `started`."""
    return any((folder / "checkpoints" / str(step)).stat().st_mtime > started for step in checkpoints(folder))


def writing_another(folder, started):
    return saved(folder, started) and writing(folder, started)


def signalled(process, folder, moment, *, delay=0.0, number=signal.SIGKILL):
    """Sends a signal `delay` seconds after `moment` becomes true; returns the run's stderr and exit code."""
    started = time.time()
    while True:
        assert process.poll() is None, process.communicate()
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):  # the run changes the files meanwhile
            if moment(folder, started):
                break
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(number)
    return process.communicate()[1], process.returncode


def went_on_from(said):
    found = re.search(r"going on from the checkpoint of step (\d+)", said)
    return int(found[1]) if found else 0


@pytest.fixture(scope="module")
def uninterrupted(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = start(*COMMAND, f"--workdir={folder}")
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert [step for step, *_ in losses(folder)] == list(range(1, STEPS + 1))
    return folder


def ends_as(uninterrupted, folder, start, command=COMMAND):
    """Starts the run again without interruption, and checks its result.

    It must resume from the newest checkpoint and end as the run in the folder `uninterrupted`.
    """
    newest = max(checkpoints(folder), default=0)
    process = start(*command, f"--workdir={folder}")
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert went_on_from(said) == newest
    assert (folder / "model.npz").read_bytes() == (uninterrupted / "model.npz").read_bytes()
    assert losses(folder) == losses(uninterrupted)
    assert names(folder) == names(uninterrupted)
    assert checkpoints(folder) == checkpoints(uninterrupted)
    assert not half_written(folder)


@pytest.mark.parametrize(
    "moments",
    [
        (saved, writing),
        pytest.param((logged(2), writing, saved, logged(EVERY), writing_another), marks=pytest.mark.slow),
    ],
)
def test_killed_again_and_again(uninterrupted, start, tmp_path, moments):
    chance, folder, torn = random.Random(0), tmp_path / "run", 0
    for moment in moments:
        newest = max(checkpoints(folder), default=0)
        process = start(*COMMAND, f"--workdir={folder}")
        said, code = signalled(process, folder, moment, delay=chance.uniform(0, 0.02))
        assert code == -signal.SIGKILL
        assert went_on_from(said) == newest
        torn += len(half_written(folder))
    assert torn, "no kill came while a checkpoint was being written"
    assert newest, "no kill came after a checkpoint"
    ends_as(uninterrupted, folder, start)


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_143(uninterrupted, start, tmp_path):
    folder = tmp_path / "run"
    process = start(*COMMAND, f"--workdir={folder}")
    said, code = signalled(process, folder, logged(6), number=signal.SIGTERM)
    assert code == 143
    step = checkpoints(folder)[-1]
    assert f"SIGTERM: saved step {step}" in said
    assert losses(folder)[-1][0] == step
    ends_as(uninterrupted, folder, start)


@pytest.mark.slow
def test_ten_random_kills_of_the_digits(start, tmp_path):
    """Uses the recipe for digits as users run it. `pytest -s` shows the moments of the kills."""
    command = ("main", "--config=configs/digits.py", f"--config.data.data_dir={tmp_path}/data")
    process = start(*command, f"--workdir={tmp_path}/uninterrupted")
    said = process.communicate()[1]
    assert process.returncode == 0, said
    chance, folder = random.Random(), tmp_path / "run"
    kinds = ["starting", "training", "training", "writing", "writing another"] * 2
    chance.shuffle(kinds)
    for kind in kinds:
        moments = {"starting": lambda *_: True, "writing": writing, "writing another": writing_another}
        moment = moments.get(kind, logged(chance.randint(1, 12)))
        delay = chance.uniform(0, 15 if kind == "starting" else 0.3)
        newest = max(checkpoints(folder), default=0)
        process = start(*command, f"--workdir={folder}", JAX_ENABLE_COMPILATION_CACHE="0")
        said, code = signalled(process, folder, moment, delay=delay)
        assert code == -signal.SIGKILL, said
        assert went_on_from(said) == newest or kind == "starting"
        step = max(map(int, re.findall(r"step (\d+) of", said)), default=0)
        torn = [path.name for path in half_written(folder)]
        print(f"{kind} and {delay:.1f} s: from {went_on_from(said)} of {newest}, to {step}, torn {torn}")
    ends_as(tmp_path / "uninterrupted", folder, start, command)
