"""The command `vit_jax` and its subcommands."""

import importlib.metadata
import subprocess
import sys

import pytest

import vit_jax
from vit_jax.__main__ import VERBS


@pytest.fixture
def run(tmp_path):
    """Returns (exit code, stdout, stderr) of `vit_jax ARGUMENTS`, in which the import of JAX ends the process."""
    (tmp_path / "jax.py").write_text("import os; os._exit(99)")

    def call(*arguments):
        command = [sys.executable, "-m", "vit_jax", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    return call


def test_help_and_version(run):
    code, out, _ = run("--help")
    assert code == 0 and all(verb in out for verb, *_ in VERBS) and run() == (0, out, "")
    assert run("--version") == (0, f"{vit_jax.__version__}\n", "")


def test_a_verb_is_its_module(run):
    for verb, module, _ in VERBS:
        code, out, _ = run(verb, "--help")
        assert (
            code == 0 and f"python -m vit_jax.{module}" in out and ("--workdir" in out) == (verb in ("train", "study"))
        )
    assert run("train", "--config.sed=3")[0] == 1
    assert "which model" in run("predict", "a.png")[2]


def test_an_unknown_verb(run):
    listed = "train, evaluate, predict, convert, export, analyze, study, prepare, demo, plan"
    assert run("trian") == (1, "", f"error: vit_jax has no verb 'trian'; it has {listed}\n")


def test_the_script_is_installed():
    scripts = importlib.metadata.entry_points(group="console_scripts", name="vit_jax")
    assert [script.value for script in scripts] == ["vit_jax.__main__:main"]
