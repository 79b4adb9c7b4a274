"""The Python code of the documents runs, with smaller models and fewer steps."""

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax
from helpers import documents

# Text of the documents, and what replaces it here; only sizes and paths change.
SMALLER = {
    '"B/16", num_classes=1000, image_size=224': '"Ti/16", depth=2, image_size=32',
    '"total_steps": 300': '"total_steps": 2, "model.depth": 1',
    "300": "2",
    "/tmp/": "./",
}
PAGES = [name for name in documents.NAMES if any(block.language == "python" for block in documents.blocks(name))]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Returns the working directory, which has the files that the code names: a run, a checkpoint, two photographs."""
    (tmp_path / "vit_digits").mkdir()
    vit_jax.save(vit_jax.create("Ti/2", depth=1, image_size=8), tmp_path / "vit_digits" / "model.npz")
    vit_jax.save(vit_jax.create("Ti/16", depth=1, image_size=32, mlp="gelu_erf"), tmp_path / "ViT-B_16.npz")
    for name in ("one.png", "two.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", PAGES)
def test_the_python_of_a_document(place, name):
    names = {"config": vit_jax.config.default(), "config_lib": vit_jax.config, "jax": jax, "vit_jax": vit_jax}
    names["images"] = np.zeros((2, 32, 32, 3), np.uint8)
    for block in documents.blocks(name):  # a block may use what those above it have made
        if block.language != "python":
            continue
        code = block.text
        for written, smaller in SMALLER.items():
            code = code.replace(written, smaller)
        assert "/tmp" not in code
        exec(code, names)
    if name == "docs/python.md":
        assert (place / "run" / "model.npz").exists() and vit_jax.load(place / "mine.npz").arch.num_classes == 10


def test_documents_have_python():
    assert {"README.md", "docs/evaluation.md", "docs/python.md"} <= set(PAGES)
