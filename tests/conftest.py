"""Settings and fixtures of all tests.

Tests run on 8 CPU devices. The shape annotations of the models are checked when the models are called. Compiled
programs are cached, so that none is compiled twice.
"""

import atexit
import functools
import gc
import os
import pathlib
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(  # makes compiling more than three times as fast
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

import jax
import jaxtyping
import pytest

import vit_jax

pytest.register_assert_rewrite("helpers")
_HOOK = jaxtyping.install_import_hook("vit_jax.models", "beartype.beartype")
_TESTS = pathlib.Path(__file__).resolve().parent
_SMALL = _TESTS / "small.py"


# The first process sets the folder in which compiled programs are cached. The workers of pytest-xdist and the processes
# that tests start inherit it, and share it.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="vit_jax_compiled_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


# JAX makes so many objects while it traces that the garbage collector's search for cycles takes a tenth of the tests'
# time. It is made rarer, but not switched off, so that memory stays bounded.
gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need the TPU compiler with `tpu`, by which `.ci/run` selects them.

    The notebooks take the longest, and come first, so that no worker waits for another at the end.
    """
    for item in items:
        if "tpu_compiler" in getattr(item, "fixturenames", ()):
            item.add_marker("tpu")
    items.sort(key=lambda item: "notebook" not in item.path.name)


@pytest.fixture(scope="session")
def tpu_compiler() -> None:
    """Skips a test that needs the TPU compiler if it is not installed."""
    pytest.importorskip("libtpu")


@pytest.fixture(scope="session")
def goldens() -> pathlib.Path:
    """Returns the folder of files with expected numbers; tests/goldens/README.md describes them."""
    return _TESTS / "goldens"


@pytest.fixture(scope="session")
def small() -> Callable[..., Any]:
    """Returns a function that makes the config of tests/small.py with changes: `small({"model.width": 8, …})`."""

    def make(changes: Mapping[str, Any] = MappingProxyType({})) -> Any:
        config = runpy.run_path(str(_SMALL))["get_config"]()
        for key, value in changes.items():
            *parents, name = key.split(".")
            functools.reduce(lambda section, parent: section[parent], parents, config)[name] = value
        return config

    return make


@pytest.fixture(scope="session")
def start(tmp_path_factory) -> Callable[..., subprocess.Popen[str]]:
    """Returns a function that starts a command in a new process, on one device: `start("main", "--workdir=…", …)`.

    If the process imports a package that is listed in `without`, it ends with code 99. `limit` is a shell command that
    is run first, such as `ulimit -f 8`. Other keywords are environment variables.
    """

    def make(
        verb: str, *args: Any, without: tuple[str, ...] = (), limit: str = "", **env: str
    ) -> subprocess.Popen[str]:
        blocked = tmp_path_factory.mktemp("blocked")
        for package in without:
            (blocked / f"{package}.py").write_text("import os; os._exit(99)")
        path = os.pathsep.join([str(blocked), str(pathlib.Path(vit_jax.__file__).parents[1])])
        command = [sys.executable, "-m", f"vit_jax.{verb}", *map(str, args)]
        return subprocess.Popen(
            ["bash", "-c", f'{limit}\nexec "$@"', "bash", *command],
            env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": path, **env},
            cwd=blocked,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return make
