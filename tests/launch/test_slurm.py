"""The batch script for SLURM. It is run here with a fake srun that starts one process."""

import os
import signal
import subprocess
import time

import pytest

OPTIONS = "--nodes=2 --gpus=8"
SAVES = "trap 'echo saved; exit 143' TERM; echo ready; while true; do sleep 0.05; done"
SRUN = '#!/usr/bin/env bash\nwhile [[ $1 == --* ]]; do shift; done\necho $$ >"$PLACE/task"\nexec "$@"\n'
SCANCEL = '#!/usr/bin/env bash\necho "$@" >>"$PLACE/scancel"\nkill -TERM "$(<"$PLACE/task")"\n'
SCONTROL = '#!/usr/bin/env bash\necho "$@" >>"$PLACE/scontrol"\nexit "${REFUSE:-0}"\n'


@pytest.fixture
def batch(launch, tmp_path):
    """Returns a function that starts the batch script for a command and returns the process."""
    for name, text in {"srun": SRUN, "scancel": SCANCEL, "scontrol": SCONTROL}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)

    def start(*command, **env):
        script = tmp_path / "batch.sh"
        script.write_text(launch("slurm.sh", *OPTIONS.split(), "--dry-run", "--", *command).stdout)
        return subprocess.Popen(
            ["bash", script],
            env={"PATH": str(tmp_path / "bin"), "PLACE": str(tmp_path), "SLURM_JOB_ID": "17", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def told(tmp_path, name):
    return (tmp_path / name).read_text() if (tmp_path / name).exists() else ""


def ready(process):
    assert process.stdout.readline() == "ready\n"


def test_a_signal_to_the_processes_saves_and_puts_the_job_back(batch, tmp_path):
    process = batch("bash", "-c", SAVES)
    ready(process)
    os.kill(int(told(tmp_path, "task")), signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == "saved\n"
    assert process.returncode == 143
    assert told(tmp_path, "scontrol") == "requeue 17\n"


def test_a_signal_to_the_script_reaches_the_processes_and_the_job_ends(batch, tmp_path):
    process = batch("bash", "-c", SAVES)
    ready(process)
    time.sleep(0.2)  # by now the script waits for srun
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == "saved\n"
    assert process.returncode == 143
    assert told(tmp_path, "scancel") == "--signal=TERM 17\n" and told(tmp_path, "scontrol") == ""


@pytest.mark.parametrize("code", [0, 1, 137])
def test_other_exit_codes_are_the_jobs_and_end_it(batch, tmp_path, code):
    process = batch("bash", "-c", f"exit {code}")
    process.communicate(timeout=20)
    assert process.returncode == code and told(tmp_path, "scontrol") == ""


def test_a_queue_that_refuses_leaves_the_exit_code(batch):
    process = batch("bash", "-c", "exit 143", REFUSE="1")
    _, said = process.communicate(timeout=20)
    assert process.returncode == 143 and "not put back" in said


def test_one_process_a_gpu_which_get_sigterm_themselves(launch):
    lines = launch("slurm.sh", *OPTIONS.split(), "--dry-run", "--", "python", "a b").stdout.splitlines()
    asked = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH"))
    assert (asked["nodes"], asked["ntasks-per-node"], asked["gpus-per-node"]) == ("2", "8", "8")
    assert asked["signal"] == "TERM@300"  # "B:" would signal only the script, not the processes
    assert {"requeue", "open-mode", "output", "time", "job-name"} <= set(asked)
    assert "srun --kill-on-bad-exit=0 --wait=0 python 'a b' &" in lines


def test_it_is_submitted(launch, fakes):
    fake = fakes("sbatch")
    (fake.folder / "sbatch").write_text('#!/bin/sh\ncat >"$0.input"\nexit "${CODE:-0}"\n')
    command = [*OPTIONS.split(), "--", "python", "-m", "vit_jax.main"]
    printed = launch("slurm.sh", *OPTIONS.split(), "--dry-run", *command[2:]).stdout.splitlines()
    assert launch("slurm.sh", *command, fakes=fake).returncode == 0
    assert (fake.folder / "sbatch.input").read_text().splitlines() == printed[:-1]
    assert launch("slurm.sh", *command, fakes=fake, CODE="5").returncode == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--nodes=2 -- python", "how large?"),
        ("--nodes=2 --gpus=8", "which command?"),
        ("--nodes=two --gpus=8 -- python", "--nodes=NUMBER"),
        ("--nodes=2 --gpus=8 --queue=q -- python", "what is --queue=q?"),
        ("--nodes=2 --gpus=8 -- python", "sbatch is not installed"),
    ],
)
def test_errors_are_one_sentence(launch, options, message):
    done = launch("slurm.sh", *options.split())
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1
