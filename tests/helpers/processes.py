"""Runs of several processes on this machine, which work like several hosts."""

import contextlib
import os
import pathlib
import runpy
import subprocess
import sys
import time

import numpy as np

import vit_jax
from helpers.folders import lines_so_far, numbers

ROOT = pathlib.Path(__file__).parents[2]
LOCAL = ROOT / "launch" / "local.py"
free_port = runpy.run_path(str(LOCAL))["_free_port"]
EXAMPLES = 50  # not a multiple of the batch size, so the last batch of an evaluation is not full
COMMAND = ("main", f"--config={ROOT / 'tests' / 'small.py'}", f"--config.data.num_examples={EXAMPLES}")
ENDS_IN = 240  # seconds; long enough for a busy machine, while a hang would last for ever


class Job:
    """A run of several processes on this machine, each with `devices` CPU devices; `second` is a flag for process 1."""

    def __init__(self, start, folder, processes, devices, *args, second="", **env):
        self.folder, self.started = folder, time.time()
        if processes > 1:
            args += (f"--coordinator=127.0.0.1:{free_port()}", f"--processes={processes}")
        self.processes = [
            start(
                *COMMAND,
                f"--workdir={folder}",
                *args,
                *([f"--process_id={process}"] if processes > 1 else []),
                *([second] if second and process == 1 else []),
                JAX_NUM_CPU_DEVICES=str(devices),
                **env,
            )
            for process in range(processes)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.communicate()

    def ended(self, but=()):
        """Waits for the processes, except those in `but`, and returns their stderr texts and their exit codes."""
        said = [p.communicate(timeout=ENDS_IN)[1] for i, p in enumerate(self.processes) if i not in but]
        return said, [p.returncode for i, p in enumerate(self.processes) if i not in but]

    def until_logged(self, step):
        """Waits until these processes (not earlier ones in the same folder) have logged the step."""
        while not any(line["step"] >= step and line["time"] > self.started for line in lines_so_far(self.folder)):
            running = [process.poll() is None for process in self.processes]
            assert all(running), [process.communicate()[1] for process in self.processes]
            time.sleep(0.01)


@contextlib.contextmanager
def local(command, said):
    """Runs a command in two processes by launch/local.py, as a user would.

    Their output goes to the file `said`, because a pipe that nobody reads would fill up and block them.
    """
    with said.open("w") as out:
        job = subprocess.Popen(
            [sys.executable, LOCAL, "--processes=2", "--", *command],
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(vit_jax.__file__).parents[1])},
        )
        try:
            yield job
        finally:
            job.terminate()  # only has an effect if the test has failed; the launcher passes the signal on
            job.wait(timeout=ENDS_IN)


def until(job, said, reached):
    deadline = time.monotonic() + ENDS_IN
    while not reached():
        assert job.poll() is None and time.monotonic() < deadline, said.read_text()
        time.sleep(0.01)


def process_of(folder, number):
    """Returns the process id of process `number` of the run in `folder`."""
    listed = subprocess.run(
        ["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    words = [line.split() for line in listed]
    (found,) = [w[0] for w in words if f"--workdir={folder}" in w and f"--process_id={number}" in w]
    return int(found)


def errors(said):
    return [line for line in said.splitlines() if line.startswith("error: ")]


def run(start, folder, processes, devices, *args):
    with Job(start, folder, processes, devices, *args) as job:
        said, codes = job.ended()
    assert codes == [0] * processes, said
    return said


def agree(folder, other):
    """Checks that two runs have the same logged numbers and the same final parameters, up to rounding.

    The run in `other` may have logged more steps.
    """
    mine, theirs = ({line["step"]: line for line in numbers(path)} for path in (folder, other))
    assert mine.keys() <= theirs.keys()
    for step, values in mine.items():
        np.testing.assert_allclose([theirs[step][key] for key in values], list(values.values()), atol=1e-5)
    old, new = (dict(np.load(path / "model.npz")) for path in (folder, other))
    assert old.keys() == new.keys()
    for name in old:
        if not name.endswith("key/bias"):  # its exact gradient is zero, so Adam amplifies rounding errors
            np.testing.assert_allclose(old[name], new[name], atol=1e-4, err_msg=name)
