"""The notebooks, and a run of one as a user runs it, or with short trainings."""

import importlib.util
import os
import pathlib
from types import MappingProxyType

import nbformat

ROOT = pathlib.Path(__file__).resolve().parents[2]
CELL_SECONDS = 180
PATHS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
_SPEC = importlib.util.spec_from_file_location("refresh", ROOT / "notebooks" / "refresh.py")
refresh = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(refresh)


def check(name, tmp_path, shorter=MappingProxyType({})):
    """Runs a notebook on one device.

    It writes to temporary folders alone, and has pictures in those cells that have some on the page before running.

    Args:
        name: of the notebook.
        tmp_path: an empty folder.
        shorter: texts of its cells and what replaces them, so that its trainings are short; none to run it as it is.
    """
    here, temporary, path = tmp_path / "here", tmp_path / "temporary", tmp_path / f"{name}.ipynb"
    here.mkdir()
    temporary.mkdir()
    stored = nbformat.read(PATHS[name], as_version=4)
    nbformat.write(_replaced(stored, shorter), path)
    env = {key: value for key, value in os.environ.items() if key != "JAX_NUM_CPU_DEVICES"}
    if not shorter and "XLA_FLAGS" in env:  # level 0 compiles fastest, but long trainings then outlast the compiler
        env["XLA_FLAGS"] = env["XLA_FLAGS"].replace("backend_optimization_level=0", "backend_optimization_level=1")
    made = refresh.executed(path, here, {**env, "TMPDIR": str(temporary)}, CELL_SECONDS)
    assert not list(here.iterdir())
    for cell, kept in zip(made.cells, stored.cells, strict=True):
        shown = [len(refresh.pictures(each)) for each in (kept, cell)]
        assert shown[0] == shown[1], f"cell {cell.id} shows others: python notebooks/refresh.py {name}.ipynb"


def _replaced(notebook, texts):
    """Returns a copy of a notebook with texts of its cells replaced, each of which occurs once."""
    made = nbformat.from_dict(notebook)
    for written, shorter in texts.items():
        (cell,) = (cell for cell in made.cells if written in cell.source)
        assert cell.source.count(written) == 1, written
        cell.source = cell.source.replace(written, shorter)
    return made
