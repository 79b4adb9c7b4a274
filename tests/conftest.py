"""Every test runs on 8 CPU devices, and the models' shape annotations are checked."""

import os
import pathlib

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jaxtyping
import pytest

_HOOK = jaxtyping.install_import_hook("vit_jax.models", "beartype.beartype")


@pytest.fixture(scope="session")
def goldens() -> pathlib.Path:
    """Files that pin numbers down; see tests/goldens/README.md."""
    return pathlib.Path(__file__).parent / "goldens"
