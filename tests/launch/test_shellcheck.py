"""The scripts, and the scripts that they write, pass shellcheck, which `pip install '.[test]'` installs."""

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci" / "run"]


def shellcheck(*args, text=None):
    found = shutil.which("shellcheck", path=pathlib.Path(sys.executable).parent) or shutil.which("shellcheck")
    if found is None:
        pytest.skip("shellcheck is not installed: pip install '.[test]' -c constraints.txt")
    return subprocess.run([found, *args], input=text, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script(script):
    done = shellcheck("--exclude=SC1091", str(script))  # shellcheck does not check files that a script sources
    assert done.returncode == 0, done.stdout


def test_a_fault_is_found():
    assert shellcheck("--shell=bash", "-", text="rm -rf $1/*\n").returncode == 1


def test_the_batch_script(launch):
    options = ["--nodes=2", "--gpus=8", "--env=/shared/env", "--cache=/shared/cache", "--dry-run"]
    text = launch("slurm.sh", *options, "--", "python", "-m", "vit_jax.main").stdout
    done = shellcheck("--exclude=SC1091", "-", text=text)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_stops_at_the_first_failure(script):
    assert "set -euo pipefail" in script.read_text()
    assert script.stat().st_mode & 0o111, f"chmod +x {script}"
