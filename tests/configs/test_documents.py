"""The docstring of each file in configs/ says how to run it and what to expect, and loading one is quick."""

import ast
import re
import shlex
import subprocess
import sys

import pytest

from helpers.recipes import FILES, ROOT, RUNS, load
from vit_jax import config_file
from vit_jax.studies import checks


def commands(file: str) -> list[list[str]]:
    """Returns the command lines in the docstring of a recipe, each as a list of words."""
    doc = ast.get_docstring(ast.parse((ROOT / "configs" / file).read_text())) or ""
    joined = re.sub(r"\\?\n\s+(?=--)", " ", doc)
    return [shlex.split(line) for line in joined.splitlines() if line.strip().startswith("python -m vit_jax.")]


@pytest.mark.parametrize("file", RUNS)
def test_documented_commands_load(file):
    lines = commands(file)
    assert lines, "the docstring says no command"
    for line in lines:
        flags = dict(arg.split("=", 1) for arg in line[3:])
        config, _ = flags.pop("--config"), flags.pop("--model" if line[2].endswith("evaluate") else "--workdir")
        assert re.match(r"configs/\w+\.py(:|$)", config)
        overrides = [(key.removeprefix("--config."), value) for key, value in flags.items()]
        if line[2] == "vit_jax.study":
            assert checks.checked(config_file.result_of(config, "get_study"), config, overrides).runs
        else:
            load(config.removeprefix("configs/"), *overrides)


@pytest.mark.parametrize("file", FILES)
def test_docstring_says_what_to_expect(file):
    doc = ast.get_docstring(ast.parse((ROOT / "configs" / file).read_text())) or ""
    accuracy = [] if file == "study_resolution.py" else ["%"]  # which measures speeds
    for word in ("hardware", "time", "expect|published", *accuracy):
        assert re.search(word, doc, re.IGNORECASE), f"nothing about {word}"


def test_loading_brings_no_tensorflow_and_no_jax():
    arguments = ["digits.py", "pretrain.py:B/16,cifar10", "transfer.py:B/16,cifar10", "vit_s16_baseline.py"]
    code = f"""
import sys
import vit_jax
from vit_jax import command_line, durations
for argument in {arguments}:
    command_line.load_config("configs/" + argument, [])
print(sorted({{"jax", "flax", "tensorflow"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
