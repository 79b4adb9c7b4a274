"""Runs of several processes on one machine, which work like several hosts.

They must give the same numbers as one process, lose nothing when they are killed, and never hang.
"""

import contextlib
import json
import os
import pathlib
import random
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax
from vit_jax.training import hosts, run_folder

ROOT = pathlib.Path(__file__).parents[2]
LOCAL = ROOT / "launch" / "local.py"
free_port = runpy.run_path(str(LOCAL))["_free_port"]
EXAMPLES = 50  # not a multiple of the batch size, so the last batch of an evaluation is not full
COMMAND = ("main", f"--config={ROOT / 'tests' / 'small.py'}", f"--config.data.num_examples={EXAMPLES}")
ENDS_IN = 240  # seconds; long enough for a busy machine, while a hang would last for ever


class Service:
    """JAX's coordination service, of which one call fails.

    Args:
        fails: the number of the call that fails, counted from 1 over all clients.
        after: whether that call fails after doing its work, rather than before.
    """

    def __init__(self, fails, after):
        self.values, self.calls, self.fails, self.after = {}, 0, fails, after

    def _called(self, work):
        self.calls += 1
        failing = self.calls == self.fails
        if failing and not self.after:
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: try again")
        result = work()
        if failing:
            raise jax.errors.JaxRuntimeError("UNAVAILABLE: the answer is lost")
        return result

    def key_value_set(self, key, value, allow_overwrite=False):
        def work():
            if key in self.values and not allow_overwrite:
                raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: {key}")
            self.values[key] = value

        self._called(work)

    def key_value_dir_get(self, folder):
        return self._called(lambda: [(key, value) for key, value in self.values.items() if key.startswith(folder)])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_any_call_may_fail_once(monkeypatch, after):
    """All the processes stop after the same step, no matter which call to the coordination service fails."""
    from jax._src import distributed

    monkeypatch.setattr(hosts, "_RUNS", iter([0] * 1000))
    for fails in range(1, 30):
        service, all_hosts = Service(fails, after), []
        for process in range(2):
            state = types.SimpleNamespace(client=service, num_processes=2, process_id=process)
            monkeypatch.setattr(distributed, "global_state", state)
            all_hosts.append(hosts.Hosts(watch_seconds=0.2))
        for host, step in zip(all_hosts, (3, 5), strict=True):
            assert not host.agreed(step)
        all_hosts[1].request_stop()
        for number in range(6):
            for host in all_hosts:
                with contextlib.suppress(jax.errors.JaxRuntimeError):  # as `_beat` does
                    host._talk(number)
        for host in all_hosts:
            assert host._stop_after == 6, f"call {fails} failed"
            assert not host._frozen.locked() and not host.agreed(5) and host.agreed(6)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_why_a_process_ends_is_told_in_spite_of_a_failure(monkeypatch, after):
    from jax._src import distributed

    service = Service(1, after)
    state = types.SimpleNamespace(client=service, num_processes=2, process_id=1)
    monkeypatch.setattr(distributed, "global_state", state)
    host = hosts.Hosts(watch_seconds=0.2)
    host._post("a reason")
    host._post("a later one")  # ignored, since the first reason counts
    assert [json.loads(v)["sentence"] for k, v in service.values.items() if "verdict" in k] == ["a reason"]


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
        while not any(line["step"] >= step and line["time"] > self.started for line in lines(self.folder)):
            running = [process.poll() is None for process in self.processes]
            assert all(running), [process.communicate()[1] for process in self.processes]
            time.sleep(0.01)


def lines(folder):
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def numbers(folder):
    return [{k: v for k, v in line.items() if k not in ("time", "train/images_per_second")} for line in lines(folder)]


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


def checkpoints(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit())


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


@pytest.fixture(scope="module")
def one(small, tmp_path_factory):
    """Returns the folder of an uninterrupted run of one process with eight devices."""
    folder = tmp_path_factory.mktemp("one") / "run"
    vit_jax.train(small({"data.num_examples": EXAMPLES}), folder)
    return folder


@pytest.fixture(scope="module")
def four(start, tmp_path_factory):
    """Returns the folder of an uninterrupted run of four processes with one device each."""
    folder = tmp_path_factory.mktemp("four") / "run"
    said = run(start, folder, 4, 1)
    assert "step 12 of 12" in said[0]
    assert not any("step 12" in text for text in said[1:])  # only process 0 logs
    return folder


# A program that trains twice: once undisturbed, and once slowly, so that the test can stop it by SIGTERM, let it
# resume, and then kill it.
PROGRAM = """
import argparse, json, logging, runpy, time
from vit_jax import distributed

parser = argparse.ArgumentParser()
for flag in ("coordinator", "small", "changes", "whole", "workdir"):
    parser.add_argument(f"--{flag}")
for flag in ("processes", "process_id"):
    parser.add_argument(f"--{flag}", type=int)
flags = parser.parse_args()
distributed.join(flags.coordinator, flags.processes, flags.process_id, 200, 30)
from vit_jax.training import hosts, loop

logging.basicConfig(force=True)
logging.getLogger("vit_jax").setLevel(logging.INFO if flags.process_id == 0 else logging.WARNING)
config = runpy.run_path(flags.small)["get_config"]()
for key, value in json.loads(flags.changes).items():
    *parents, name = key.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    section[name] = value
loop.train(config, flags.whole)
agreed = hosts.Hosts.agreed
hosts.Hosts.agreed = lambda self, step: time.sleep(0.5) or agreed(self, step)
try:
    loop.train(config, flags.workdir, watch_seconds=10)
except SystemExit as end:
    print("ended with", end.code, flush=True)
loop.train(config, flags.workdir)
"""


def test_two_processes_stopped_and_killed_end_as_one(small, tmp_path):
    """The result equals that of one process up to rounding, and that of an undisturbed run bit for bit."""
    changes = {"data.num_examples": EXAMPLES, "model.depth": 1, "log_steps": 1, "checkpoint.every_steps": 5}
    folder, whole, program = tmp_path / "run", tmp_path / "whole", tmp_path / "main.py"
    program.write_text(PROGRAM)
    command = [sys.executable, program, f"--small={ROOT / 'tests' / 'small.py'}", f"--changes={json.dumps(changes)}"]
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    with local([*command, f"--whole={whole}", f"--workdir={folder}"], first) as job:
        until(job, first, lambda: lines(folder))
        os.kill(process_of(folder, 1), signal.SIGTERM)
        until(job, first, lambda: first.read_text().count("ended with 143\n") == 2)
        saved = checkpoints(folder)
        until(job, first, lambda: lines(folder)[-1]["step"] > saved[-1])
        os.kill(process_of(folder, 1), signal.SIGKILL)
        assert job.wait(timeout=ENDS_IN) == 1, first.read_text()
    text = first.read_text()
    assert errors(text) == ["error: process 1 was ended by SIGKILL"]
    assert f"SIGTERM: saved step {saved[-1]}" in text and f"going on from the checkpoint of step {saved[-1]} in" in text
    assert not (folder / "model.npz").exists()
    saved = checkpoints(folder)
    flags = [f"--config.{key}={value}" for key, value in changes.items()]
    with local([sys.executable, "-m", "vit_jax.main", COMMAND[1], *flags, f"--workdir={folder}"], second) as job:
        vit_jax.train(small(changes), tmp_path / "one")  # while the two processes run
        assert job.wait(timeout=ENDS_IN) == 0, second.read_text()
    text = second.read_text()
    assert f"going on from the checkpoint of step {saved[-1]} in" in text
    assert "step 12 of 12" in text and "process 1: " not in text  # only process 0 logs
    assert numbers(folder) == numbers(whole)
    assert (folder / "model.npz").read_bytes() == (whole / "model.npz").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert json.loads((folder / "config.json").read_text())["devices"]["processes"] == 2
    agree(tmp_path / "one", folder)


def test_workdir_that_is_not_on_a_common_disk(tmp_path, monkeypatch):
    """Raises an error if the files that process 0 has written do not appear for another process."""
    monkeypatch.setattr(run_folder, "_NETWORK_DISK_SECONDS", 0.0)
    here = tmp_path / "run"
    with pytest.raises(vit_jax.UserError, match="run was made by process 0 and is not here; name a --workdir that"):
        run_folder.require_shared(here)
    here.mkdir()
    (here / "config.json").touch()
    run_folder.require_shared(here)


@pytest.mark.slow
def test_four_processes_equal_one(one, four):
    agree(one, four)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_sharded_over_processes(start, one, tmp_path, processes):
    """The parameters are sharded over the processes, so no process holds all of them on its devices."""
    run(start, tmp_path / "run", processes, 4 // processes, "--config.mesh.data=1", "--config.mesh.fsdp=4")
    agree(one, tmp_path / "run")


@pytest.mark.slow
def test_any_killed_at_a_random_moment(start, four, tmp_path):
    """If one process is killed, all end, and the same command then resumes to the same bits."""
    killed = [random.choice([1, 2, 3]), 0]  # process 0 is special, because it watches the others
    for process in killed:
        with Job(start, tmp_path / "run", 4, 1, "--watch_seconds=10") as job:
            job.until_logged(random.choice([2, 4, 6, 8]))
            time.sleep(random.uniform(0, 0.5))
            job.processes[process].kill()
            said, codes = job.ended()
        assert codes.pop(process) == -signal.SIGKILL
        assert all(codes), (codes, said)
        named = [
            text
            for text in said
            if f"no sign of life from process {process} on {socket.gethostname()} for 10 s" in text
        ]
        assert len(named) == 3 or process == 0, said
    run(start, tmp_path / "run", 4, 1)
    assert numbers(tmp_path / "run") == numbers(four)
    assert (tmp_path / "run" / "model.npz").read_bytes() == (four / "model.npz").read_bytes()
    assert checkpoints(tmp_path / "run") == checkpoints(four)
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name or "tmp" in path.name]


@pytest.mark.slow
def test_goes_on_with_another_number_of_processes(start, small, tmp_path):
    """A run is resumed with half as many processes, twice.

    SIGTERM to one process ends each part: all the processes save at the same step.
    """
    changes = {"data.num_examples": EXAMPLES, "total_steps": 200, "checkpoint.every_steps": 200, "log_steps": 1,
               "optimizer.learning_rate": 1e-4, "evaluations.test.every_steps": 200}  # fmt: skip
    vit_jax.train(small(changes), tmp_path / "one")
    flags = [f"--config.{key}={value}" for key, value in changes.items()]
    folder, saved = tmp_path / "run", 0
    for processes, devices in ((4, 1), (2, 2)):
        with Job(start, folder, processes, devices, *flags, "--watch_seconds=10") as job:
            job.until_logged(saved + 1)
            job.processes[-1].terminate()
            said, codes = job.ended()
        assert codes == [143] * processes, said
        assert not saved or f"going on from the checkpoint of step {saved}" in said[0]
        saved = checkpoints(folder)[-1]
        assert f"SIGTERM: saved step {saved}" in said[0]
    again = run(start, folder, 1, 2, *flags)
    assert f"going on from the checkpoint of step {saved}" in again[0]
    agree(tmp_path / "one", folder)


@pytest.mark.slow
def test_sigterm_before_the_first_step_leaves_nothing(start, tmp_path):
    with Job(start, tmp_path / "run", 2, 1, JAX_ENABLE_COMPILATION_CACHE="0") as job:
        for line in job.processes[0].stderr:
            if "parameters" in line:  # logged just before the step is compiled
                break
        job.processes[1].terminate()
        said, codes = job.ended()
    assert codes == [143, 143], said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_stopped_first_process_is_named(start, tmp_path):
    """The other process names process 0, which was suspended. A test in tests/launch suspends another process."""
    with Job(start, tmp_path / "run", 2, 1, "--watch_seconds=8") as job:
        job.until_logged(4)
        job.processes[0].send_signal(signal.SIGSTOP)
        said, codes = job.ended(but=[0])
    assert codes == [1], said
    (error,) = errors(said[0])
    assert f"no sign of life from process 0 on {socket.gethostname()} for 8 s" in error


@pytest.mark.slow
def test_error_of_one_ends_all(start, tmp_path):
    """All the processes end with the same error when one of them finds an image that can't be read."""
    rng = np.random.default_rng(0)
    for i in range(24):
        path = tmp_path / "images" / ("train", "test")[i % 3 == 2] / "abcd"[i % 4] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    (bad,) = (tmp_path / "images" / "train").rglob("0.png")
    bad.write_text("no image")
    data = (f"--config.data.data_dir={tmp_path}/images", "--config.data.name=folder", "--config.data.corrupt=fail",
            "--config.data.num_examples=1024", "--config.data.num_classes=10")  # fmt: skip
    with Job(start, tmp_path / "run", 2, 1, *data) as job:
        said, codes = job.ended()
    assert codes == [1, 1], said
    found = [line for text in said for line in errors(text)]
    assert len(found) == 2 and all(f"{bad} can't be read" in line for line in found), said
    assert sum(f"on {socket.gethostname()} failed: " in line for line in found) == 1
    assert not any("Traceback" in text for text in said)


@pytest.mark.slow
def test_starts_from_a_file_in_a_cluster_that_is_detected(start, small, one, tmp_path):
    """Two processes that SLURM started find each other; one with --processes=1 does not wait for another."""
    still = {"init_from": str(one), "optimizer.learning_rate": 0.0, "optimizer.average": 0.0, "total_steps": 1}
    cluster = {"SLURM_JOB_ID": str(random.randrange(4096)), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2"}
    flags = [f"--config.{key}={value}" for key, value in still.items()]
    jobs = [
        start(*COMMAND, *flags, f"--workdir={tmp_path}/together", **cluster, SLURM_PROCID=str(i), SLURM_LOCALID="0")
        for i in range(2)
    ]
    alone = {**cluster, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    jobs.append(start(*COMMAND, *flags, f"--workdir={tmp_path}/alone", "--processes=1", **alone))
    said = [job.communicate(timeout=ENDS_IN)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0], said
    for name, processes in (("together", 2), ("alone", 1)):
        assert json.loads((tmp_path / name / "config.json").read_text())["devices"]["processes"] == processes
    agree(tmp_path / "together", tmp_path / "alone")


@pytest.mark.slow
def test_processes_that_prepare_the_digits_at_once(tmp_path):
    """Two processes that prepare the data set at once, in a new folder, read the same images as a single process."""
    command = [sys.executable, "-m", "vit_jax.main", f"--config={ROOT / 'configs' / 'digits.py'}"]
    command += ["--config.total_steps=4", "--config.schedule.warmup_steps=0", "--config.model.depth=1"]
    said = tmp_path / "said.txt"
    with local([*command, f"--config.data.data_dir={tmp_path}/two", f"--workdir={tmp_path}/both"], said) as job:
        assert job.wait(timeout=ENDS_IN) == 0, said.read_text()
    assert [path.name for path in (tmp_path / "two" / "digits").iterdir()] == ["1.0.0"]
    env = {**os.environ, "PYTHONPATH": str(pathlib.Path(vit_jax.__file__).parents[1])}
    alone = [*command, f"--config.data.data_dir={tmp_path}/one", f"--workdir={tmp_path}/alone"]
    subprocess.run(alone, env=env, check=True, timeout=ENDS_IN)
    agree(tmp_path / "alone", tmp_path / "both")


@pytest.mark.slow
def test_what_one_process_cannot_read_or_does_not_share(start, four, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(four, folder)
    (folder / "model.npz").unlink()
    for path in (folder / "checkpoints" / "12").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Job(start, folder, 2, 1) as job:
        said, codes = job.ended()
    assert codes == [1, 1], said
    assert any(f"the checkpoint {folder}/checkpoints/12 can't be read" in line for line in errors(said[0])), said
    shutil.rmtree(folder / "checkpoints" / "12")
    for other, expected in (
        (f"--workdir={tmp_path}/other", "the workdir is another one here than in process 0; name a --workdir that"),
        ("--config.checkpoint.keep=7", "the config is another one here than in process 0; give all"),
    ):
        with Job(start, folder, 2, 1, second=other) as job:
            said, codes = job.ended()
        assert codes == [1, 1], said
        assert errors(said[1])[0].startswith(f"error: {expected}"), said
        assert f"failed: {expected}" in errors(said[0])[0], said
