"""Runs of several processes on one machine, which work like several hosts, give the same numbers as one process."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys

import pytest

import vit_jax
from helpers.folders import checkpoints, numbers
from helpers.folders import lines_so_far as lines
from helpers.processes import COMMAND, ENDS_IN, EXAMPLES, ROOT, Job, agree, errors, local, process_of, run, until


@pytest.fixture(scope="module")
def one(small, tmp_path_factory):
    """Returns the folder of an uninterrupted run of one process with eight devices."""
    folder = tmp_path_factory.mktemp("one") / "run"
    vit_jax.train(small({"data.num_examples": EXAMPLES}), folder)
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
