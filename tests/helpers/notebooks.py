"""The notebooks, and a run of one as a user runs it."""

import importlib.util
import os
import pathlib

import nbformat

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATHS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
_SPEC = importlib.util.spec_from_file_location("refresh", ROOT / "notebooks" / "refresh.py")
refresh = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(refresh)


def check(name, tmp_path):
    """Runs a notebook whole.

    It writes to temporary folders alone, and has pictures in the cells that have some on the page before running.
    """
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    made = refresh.executed(PATHS[name], here, {**os.environ, "TMPDIR": str(temporary)})
    assert not list(here.iterdir())
    stored = nbformat.read(PATHS[name], as_version=4)
    for cell, kept in zip(made.cells, stored.cells, strict=True):
        sizes = [len(picture) for picture in refresh.pictures(cell)]
        assert len(sizes) == len(refresh.pictures(kept)), f"cell {cell.id}: python notebooks/refresh.py {name}.ipynb"
        assert all(size < refresh.LARGEST_PICTURE for size in sizes), cell.id
