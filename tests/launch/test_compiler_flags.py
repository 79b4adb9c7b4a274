"""Flags in launch/compiler_flags.txt: read alike by all, and taken by the compilers they are for."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from vit_jax.planning.chips import CHIPS

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINES = (ROOT / "launch" / "compiler_flags.txt").read_text().splitlines()
SLICES = {"v2": "2x2", "v3": "2x2", "v4": "2x2x1", "v5e": "2x2", "v5p": "2x2x1", "v6e": "2x2", "tpu7x": "2x2x1"}
COMPILE = """
import sys
import jax
from vit_jax.planning import slices
device = slices.devices(slices.parse(sys.argv[1]))[0]
x = jax.ShapeDtypeStruct((128, 128), jax.numpy.bfloat16, sharding=jax.sharding.SingleDeviceSharding(device))
jax.jit(lambda x: x @ x).lower(x).compile()
"""


def flags(generation):
    return [line.split()[0] for line in LINES if line.startswith("--") and generation in line.split()[1].split(",")]


def compiled(generation, args):
    return subprocess.run(
        [sys.executable, "-c", COMPILE, f"{generation}:{SLICES[generation]}"],
        env={**os.environ, "LIBTPU_INIT_ARGS": args, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_line_has_a_flag_generations_and_a_reason():
    (named,) = [line for line in LINES if line.startswith("generations:")]
    assert named.split()[1:] == list(CHIPS)
    for line in LINES:
        if line and not line.startswith(("#", "generations:")):
            found = re.fullmatch(r"(--\w+=\S+) +([\w,]+) +# (.{20,})", line)
            assert found, line
            assert set(found[2].split(",")) <= set(CHIPS), line


@pytest.mark.parametrize("generation", CHIPS)
def test_the_scripts_read_the_same_flags(launch, generation):
    done = launch("compiler_flags.sh", generation)
    assert done.returncode == 0 and done.stdout.split() == flags(generation)
    if CHIPS[generation].tpu and generation not in ("v2", "v3"):
        text = launch(
            "gke.py", "--name=a", f"--topology={generation}:{'4x4' if CHIPS[generation].dimensions == 2 else '4x4x4'}",
            "--image=i", "--config=c", "--workdir=gs://b/r", "--dry-run",
        ).stdout  # fmt: skip
        assert ("LIBTPU_INIT_ARGS" in text) == bool(flags(generation))
        assert all(flag in text for flag in flags(generation))
    variable = "LIBTPU_INIT_ARGS" if CHIPS[generation].tpu else "XLA_FLAGS"
    text = launch("worker.sh", "exec", f"--generation={generation}", "--dry-run", "--", "python").stdout
    assert (variable in text) == bool(flags(generation)) and all(flag in text for flag in flags(generation))


@pytest.mark.parametrize("args", [[], ["v9"], ["v5e", "v6e"], ["--help"]])
def test_an_unknown_generation_is_an_error(launch, args):
    done = launch("compiler_flags.sh", *args)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1


@pytest.mark.parametrize("generation", [name for name, chip in CHIPS.items() if chip.tpu and flags(name)])
def test_libtpu_takes_them(generation):
    pytest.importorskip("libtpu")
    done = compiled(generation, " ".join(flags(generation)))
    assert done.returncode == 0, done.stderr


def test_libtpu_refuses_what_it_does_not_know():
    pytest.importorskip("libtpu")
    done = compiled("v5e", "--xla_tpu_no_such_flag=true")
    assert done.returncode != 0 and "xla_tpu_no_such_flag" in done.stderr + done.stdout


def test_xla_takes_those_for_gpus():
    wanted = {flag for name, chip in CHIPS.items() if not chip.tpu for flag in flags(name)}
    for given, known in ((wanted, True), ({"--xla_gpu_no_such_flag=true"}, False)):
        done = subprocess.run(
            [sys.executable, "-c", "import jax; jax.devices()"],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(given)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ("Unknown flag" not in done.stderr) == known, done.stderr
