"""The notebooks run from top to bottom, and what they show and name on the page is there.

`pods.ipynb` needs the TPU compiler, and is run where the tests of planning are: tests/planning/test_notebook.py.
"""

import ast
import base64
import functools
import importlib
import io
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from PIL import Image

import vit_jax
from helpers.notebooks import PATHS, ROOT, check, refresh

ELSEWHERE = ("pods",)
ADDRESS = re.search(r'^    url="([^"]+)",$', (ROOT / "setup.py").read_text(), re.MULTILINE)[1]
COLAB = "https://colab.research.google.com"


# Texts of the notebooks, and what replaces them so that the trainings take a few steps.
SHORTER = {
    "data_size": {"examples, 100\n": "examples, 4\n", '"total_steps": 60': '"total_steps": 4'},
    "quickstart": {'"total_epochs": 25': '"total_epochs": 1', '"total_epochs": 80': '"total_epochs": 2'},
    "see_inside": {'"total_steps": 120': '"total_steps": 4'},
}


def test_each_is_run():
    assert {*PATHS} == {*SHORTER, *ELSEWHERE}


@pytest.mark.parametrize("name", SHORTER)
def test_it_runs_with_short_trainings(name, tmp_path):
    check(name, tmp_path, SHORTER[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORTER)
def test_it_runs(name, tmp_path):
    check(name, tmp_path)


@pytest.fixture(params=PATHS)
def notebook(request):
    return request.param, nbformat.read(PATHS[request.param], as_version=4)


def code_of(cells):
    """Yields the syntax tree of each cell of Python."""
    for cell in cells:
        if cell.cell_type == "code" and not cell.source.startswith("%%"):
            yield ast.parse(TransformerManager().transform_cell(cell.source))


def test_it_is_kept_as_refresh_writes_it(notebook, tmp_path):
    """It has no outputs but small pictures, and the format is 4.5, with an id for each cell."""
    name, found = notebook
    nbformat.write(refresh.cleared(found), tmp_path / "cleared.ipynb")
    assert (tmp_path / "cleared.ipynb").read_bytes() == PATHS[name].read_bytes()
    assert (found.nbformat, found.nbformat_minor) == (4, 5)
    for cell in found.cells:
        for picture in refresh.pictures(cell):
            assert picture.startswith(b"\x89PNG") and len(picture) < refresh.LARGEST_PICTURE, cell.id


def test_it_begins_with_a_badge_and_the_installation(notebook):
    name, found = notebook
    owner = ADDRESS.removeprefix("https://github.com/")
    badge = (
        f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({COLAB}/github/{owner}/blob/main/notebooks/{name}.ipynb)"
    )
    assert found.cells[0].cell_type == "markdown" and found.cells[0].source.count(badge) == 1
    assert found.cells[0].source.startswith("# ")
    first = nbformat.read(PATHS["quickstart"] if "quickstart" in PATHS else PATHS["pods"], as_version=4)
    assert found.cells[1].source == first.cells[1].source
    assert f'"git+{ADDRESS}"' in found.cells[1].source


def test_the_addresses_are_those_of_the_repository(notebook):
    """Links to files of the repository name files that are there."""
    _, found = notebook
    for address in re.findall(r"https://github\.com/[^\s)\"'\]]+", "\n".join(cell.source for cell in found.cells)):
        assert address == ADDRESS or address.startswith(f"{ADDRESS}/"), address
        if file := re.search(r"/(?:blob|tree)/main/([^#]+)", address):
            assert (ROOT / file[1]).exists(), address


def test_what_it_names_is_there(notebook):
    """Names of the package, imports of it, and files of configs/ and launch/."""
    name, found = notebook
    chains, imports = set(), set()
    for tree in code_of(found.cells):
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.fullmatch(r"vit_jax(\.\w+)+", ast.unparse(node)):
                chains.add(ast.unparse(node))
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "vit_jax":
                imports |= {(node.module, alias.name) for alias in node.names}
    for chain in chains:
        functools.reduce(getattr, chain.split(".")[1:], vit_jax)
    for module, imported in imports:
        assert hasattr(importlib.import_module(module), imported), f"{module}.{imported}"
    text = "\n".join(cell.source for cell in found.cells)
    for module in re.findall(r"-m (vit_jax\.\w+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    for file in re.findall(r"(?:configs|launch)/\w+\.(?:py|sh)", text):
        assert (ROOT / file).exists(), file
    assert chains or name in ELSEWHERE


def written(path, *cells):
    made = [nbformat.v4.new_code_cell(source, id=f"cell-{number}") for number, source in enumerate(cells)]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)
    return path


def test_a_failure_names_the_cell_and_the_error(tmp_path):
    path = written(tmp_path / "two.ipynb", "print('before')", "wrong = 0\n1 / wrong")
    before = path.read_bytes()
    command = [sys.executable, ROOT / "notebooks" / "refresh.py", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and path.read_bytes() == before
    assert done.stderr.startswith("error: two.ipynb, cell 2 of 2 failed:\n\nwrong = 0\n1 / wrong\n")
    assert "ZeroDivisionError" in done.stderr and "\x1b" not in done.stderr


def test_only_pictures_are_kept(tmp_path):
    """Their colours are reduced to a palette, once."""
    drawn = io.BytesIO()
    Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)).save(drawn, "PNG")
    shown = {"image/png": base64.b64encode(drawn.getvalue()).decode(), "text/plain": "<Figure>"}
    found = nbformat.read(written(tmp_path / "one.ipynb", "1", "2"), as_version=4)
    found.cells[0].outputs = [
        nbformat.v4.new_output("stream", text="step 1"),
        nbformat.v4.new_output("execute_result", shown, execution_count=1, metadata={"image/png": {"width": 1}}),
        nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "0%"}),
    ]
    found.cells[0].execution_count, found.metadata.widgets = 1, {"state": {}}
    kept = refresh.cleared(found)
    assert [[*output.data] for output in kept.cells[0].outputs] == [["image/png"]]
    assert kept.cells[0].execution_count is None and "widgets" not in kept.metadata
    (picture,) = refresh.pictures(kept.cells[0])
    image = Image.open(io.BytesIO(picture))
    assert (image.mode, image.size) == ("P", (8, 8))
    np.testing.assert_allclose(np.asarray(image.convert("RGB")), np.asarray(Image.open(drawn)), atol=8)
    assert refresh.cleared(kept) == kept and len(found.cells[0].outputs) == 3
