"""launch/local.py: what it starts, what it shows and how it ends. Small programs replace `main`."""

import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

LOCAL = pathlib.Path(__file__).parents[2] / "launch" / "local.py"
SMALL = pathlib.Path(__file__).parents[1] / "small.py"
PROGRAM = """
import argparse, os, signal, sys, time
parser = argparse.ArgumentParser()
for flag in ("coordinator", "processes", "process_id"):
    parser.add_argument("--" + flag)
flags = parser.parse_args()
me = int(flags.process_id)
def say(*text): print(*text, file=sys.stderr, flush=True)
def forever():
    print("ready", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def local(tmp_path):
    """Returns a function that starts a program by launch/local.py: `local("body of the program", "--processes=2")`."""

    def make(body, *args):
        path = tmp_path / "main.py"
        path.write_text(PROGRAM + body)
        command = [sys.executable, LOCAL, *args, "--", sys.executable, path]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return make


def ended(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def ready(process, count):
    """Waits until `count` processes have printed that they are ready."""
    for _ in range(count):
        assert "ready" in process.stdout.readline()


def command(*args):
    return subprocess.run([sys.executable, LOCAL, *args], capture_output=True, text=True, timeout=120)


def test_dry_run_prints_the_commands():
    done = command("--processes=2", "--devices=3", "--dry-run", "--", "python", "-m", "vit_jax.main", "--workdir=a b")
    assert (done.returncode, done.stderr) == (0, "")
    found = [re.sub(r"127.0.0.1:\d+", "HOST:PORT", line) for line in done.stdout.splitlines()]
    start = "JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=3 python -m vit_jax.main '--workdir=a b' --coordinator=HOST:PORT"
    assert found == [f"{start} --processes=2 --process_id=0", f"{start} --processes=2 --process_id=1"]
    ports = re.findall(r"127.0.0.1:(\d+)", done.stdout)
    assert len(set(ports)) == 1 and 1024 < int(ports[0]) < 32768  # Linux uses the ports above for outgoing connections


def test_help():
    done = command("--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("--processes", "--devices", "--dry-run", "143", "vit_jax.main"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "--processes"),
        (["--processes=2"], "which command? add -- python -m vit_jax.main"),
        (["--processes=2", "--"], "which command?"),
        (["--processes=0", "--", "python", "-m", "vit_jax.main"], "--processes=0 is not a number of processes"),
        (["--processes=two", "--", "python", "-m", "vit_jax.main"], "'two'"),
        (["--processes=2", "--devices=-1", "--", "python", "-m", "vit_jax.main"], "--devices=-1"),
        (["--processes=2", "--proceses=3", "--", "python", "-m", "vit_jax.main"], "--proceses=3"),
        (["--processes=2", "python", "-m", "vit_jax.main"], "vit_jax.main"),
        (["--processes=2", "--", "python", "-m", "vit_jax.predict"], "does not run vit_jax.main"),
        (["--processes=2", "--", "vit_jax", "evaluate", "--model=main.py"], "does not run vit_jax.main"),
        (["--processes=2", "--", "python", "-m", "vit_jax.predict", "--out=study.py"], "does not run vit_jax.main"),
        (["--processes=2", "--", "pyton", "-m", "vit_jax.main"], "pyton can't be started"),
    ],
)
def test_bad_input_fails_in_one_sentence(args, said):
    done = command(*args)
    assert done.returncode == 1
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and said in line, line


def test_complete_and_who_says_what(local):
    body = "print('out', os.environ['JAX_NUM_CPU_DEVICES']); say('log of', me, 'of', flags.processes)"
    code, out, err = ended(local(body, "--processes=2", "--devices=4"))
    assert code == 0
    assert sorted(out.splitlines()) == ["out 4", "process 1: out 4"]
    assert sorted(err.splitlines()) == ["log of 0 of 2", "process 1: log of 1 of 2"]


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("say('error: no such file'); sys.exit(1)", ["error: no such file"]),
        (
            "say('error: no such file' if me else 'error: process 1 on host failed: no such file'); sys.exit(1)",
            ["error: process 1 on host failed: no such file"],
        ),
        ("me == 2 and (say('error: its disk is full'), sys.exit(1))", ["process 2: error: its disk is full"]),
    ],
    ids=["by all", "of another", "by one"],
)
def test_an_error_is_shown_once(local, body, shown):
    code, _, err = ended(local(body, "--processes=3"))
    assert code == 1
    assert err.splitlines() == shown


def test_a_killed_process_is_named_and_ends_all(local):
    process = local("me == 1 and os.kill(os.getpid(), signal.SIGKILL)\nforever()", "--processes=3")
    code, _, err = ended(process)
    assert code == 1
    assert err.splitlines() == ["error: process 1 was ended by SIGKILL"]


@pytest.mark.parametrize(
    ("number", "handler", "code"),
    [
        (signal.SIGTERM, "lambda *_: sys.exit(143)", 143),
        (signal.SIGTERM, "lambda *_: sys.exit(0)", 0),
        (signal.SIGTERM, "lambda *_: sys.exit(143 if me else 1)", 1),
        (signal.SIGTERM, "signal.SIG_DFL", 143),
        (signal.SIGINT, "lambda *_: sys.exit(130)", 130),
    ],
    ids=str,
)
def test_signals_are_passed_on(local, number, handler, code):
    process = local(f"signal.signal({int(number)}, {handler})\nforever()", "--processes=2")
    ready(process, 2)
    process.send_signal(number)
    assert ended(process)[0] == code


@pytest.mark.slow
def test_what_all_find_is_said_once(tmp_path):
    train = (sys.executable, "-m", "vit_jax.main", f"--config={SMALL}", f"--workdir={tmp_path}/run")
    for steps, code, said in ((2, 0, "step 2 of 2"), (2, 0, "complete"), (3, 1, "config.total_steps was 2 and is 3")):
        done = command("--processes=2", "--", *train, f"--config.total_steps={steps}")
        assert done.returncode == code, done.stderr
        assert done.stderr.count(said) == 1, done.stderr


@pytest.mark.slow
def test_stopped_straggler_is_named_and_ended(tmp_path):
    train = (sys.executable, "-m", "vit_jax.main", f"--config={SMALL}", f"--workdir={tmp_path}/run")
    options = ("--config.total_steps=1000", "--watch_seconds=8")
    process = subprocess.Popen(
        [sys.executable, LOCAL, "--processes=2", "--", *train, *options], stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "run" / "checkpoints" / "3").exists():
        assert process.poll() is None
        time.sleep(0.05)
    listed = subprocess.run(["ps", "-eww", "-o", "pid,args"], capture_output=True, text=True).stdout.splitlines()
    (straggler,) = [
        int(line.split()[0])
        for line in listed
        if f"--workdir={tmp_path}/run" in line and "--process_id=1" in line and "local.py" not in line
    ]
    subprocess.run(["kill", "-STOP", str(straggler)], check=True)
    code, _, err = ended(process)
    assert code == 1
    assert err.count("error: no sign of life from process 1 on ") == 1, err
    assert subprocess.run(["kill", "-0", str(straggler)], capture_output=True).returncode  # it is gone
