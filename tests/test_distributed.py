"""Joining several processes: wrong flags, a port that is in use, and processes that do not start."""

import os
import pathlib
import runpy
import socket

import pytest

import vit_jax
from vit_jax import distributed

free_port = runpy.run_path(str(pathlib.Path(__file__).parents[1] / "launch" / "local.py"))["_free_port"]
COMMAND = ("main", f"--config={pathlib.Path(__file__).parent / 'small.py'}")
ENDS_IN = 240  # seconds; long enough for a busy machine, while a hang would last for ever


def errors(said):
    return [line for line in said.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("10.0.0.1:1", None, None), "add --processes and --process_id"),
        ((None, 2, 0), "add --coordinator"),
        ((None, None, 0), "add --coordinator and --processes"),
        ((None, 1, 1), "add --coordinator"),
        (("10.0.0.1:1", 2, 2), "--process_id=2 is not one of --processes=2; take 0 to 1"),
        (("10.0.0.1", 2, 0), "--coordinator=10.0.0.1 is not HOST:PORT"),
        (("10.0.0.1:", 2, 0), "is not HOST:PORT"),
        ((":8476", 2, 0), "is not HOST:PORT"),
        (("10.0.0.1:0", 2, 0), "is not HOST:PORT"),
        (("10.0.0.1:99999", 2, 0), "is not HOST:PORT"),
    ],
)
def test_flags_that_cannot_be_meant(flags, said):
    with pytest.raises(vit_jax.UserError, match=said):
        distributed.check(*flags)


@pytest.mark.parametrize(
    "flags", [(None, None, None), (None, 1, None), (None, 1, 0), ("10.0.0.1:8476", 2, 1), ("[::1]:8476", 1, 0)]
)
def test_flags_that_can(flags):
    distributed.check(*flags)


@pytest.mark.parametrize(
    ("flag", "said"),
    [("--process_id=0", "add --coordinator and --processes"), ("--watch_seconds=0", "watch_seconds")],
)
def test_flags_are_checked_before_jax_is_imported(start, tmp_path, flag, said):
    process = start(*COMMAND, f"--workdir={tmp_path}/run", flag, without=("jax", "tensorflow"))
    err = process.communicate(timeout=ENDS_IN)[1]
    assert process.returncode == 1, err
    (line,) = err.splitlines()
    assert line.startswith("error: ") and said in line, line


def test_port_that_is_taken():
    with socket.create_server(("", free_port())) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(vit_jax.UserError, match=f"--coordinator={address} can't be used .Address already in use"):
            distributed._check_port(address)
        assert distributed._answers(address)
    distributed._check_port(address)
    assert not distributed._answers(address)


@pytest.mark.parametrize(
    ("coordinator", "answers", "said"),
    [
        ("10.0.0.1:1", True, "not all of --processes=2 have come to --coordinator=10.0.0.1:1 in 0.01 s; start them"),
        ("10.0.0.1:1", False, "nothing answers at --coordinator=10.0.0.1:1, where process 0 has to be in 0.01 s;"),
        (None, False, "the other processes of this job have not come in 0.01 s;"),
    ],
)
def test_others_that_do_not_come(monkeypatch, capsys, coordinator, answers, said):
    codes = []
    monkeypatch.setattr(distributed, "_answers", lambda _: answers)
    monkeypatch.setattr(os, "_exit", codes.append)
    with distributed._ends_after(0.01, coordinator, 2):
        while not codes:
            pass
    with distributed._ends_after(1000.0, coordinator, 2):
        pass  # the other processes joined in time
    assert codes == [1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {said}") and line.endswith("add --processes=1 where this process is alone")


@pytest.mark.slow
def test_alone_of_two(start, tmp_path):
    """One process of two ends with an error if the other does not start, or if its port is in use."""
    flags = (*COMMAND, "--processes=2", f"--workdir={tmp_path}/run", "--wait_seconds=3")
    ports = free_port(), free_port()
    with socket.create_server(("", free_port())) as taken:
        processes = [
            start(*flags, f"--coordinator=127.0.0.1:{ports[0]}", "--process_id=0"),
            start(*flags, f"--coordinator=127.0.0.1:{ports[1]}", "--process_id=1"),
            start(*flags, f"--coordinator=127.0.0.1:{taken.getsockname()[1]}", "--process_id=0"),
        ]
        said = [process.communicate(timeout=ENDS_IN)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1, 1], said
    assert "not all of --processes=2 have come" in errors(said[0])[0]
    assert errors(said[1])[0].startswith(f"error: nothing answers at --coordinator=127.0.0.1:{ports[1]}, where")
    assert "can't be used (Address already in use)" in errors(said[2])[0]
    assert not (tmp_path / "run").exists()
