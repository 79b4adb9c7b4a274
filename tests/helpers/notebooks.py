"""The notebooks, and a run of one as a user runs it."""

import importlib.util
import os
import pathlib

import nbformat

ROOT = pathlib.Path(__file__).resolve().parents[2]
CELL_SECONDS = 180
PATHS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
_SPEC = importlib.util.spec_from_file_location("refresh", ROOT / "notebooks" / "refresh.py")
refresh = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(refresh)


def check(name, tmp_path):
    """Runs a notebook whole, on one device.

    It writes to temporary folders alone, and has pictures in those cells that have some on the page before running.
    """
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    env = {key: value for key, value in os.environ.items() if key != "JAX_NUM_CPU_DEVICES"}
    if "XLA_FLAGS" in env:  # level 0 compiles fastest, but what a notebook trains then takes longer than the compiler
        env["XLA_FLAGS"] = env["XLA_FLAGS"].replace("backend_optimization_level=0", "backend_optimization_level=1")
    made = refresh.executed(PATHS[name], here, {**env, "TMPDIR": str(temporary)}, CELL_SECONDS)
    assert not list(here.iterdir())
    stored = nbformat.read(PATHS[name], as_version=4)
    for cell, kept in zip(made.cells, stored.cells, strict=True):
        shown = [len(refresh.pictures(each)) for each in (kept, cell)]
        assert shown[0] == shown[1], f"cell {cell.id} shows others: python notebooks/refresh.py {name}.ipynb"
