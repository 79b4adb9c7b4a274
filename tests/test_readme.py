"""The Python code in README.md runs, with smaller models and fewer steps."""

import pathlib
import re

import jax
import numpy as np
import pytest
from PIL import Image

import vit_jax

README = pathlib.Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
# Text in README.md, and what replaces it here; only sizes and paths change.
SMALLER = {'"B/16", num_classes=1000, image_size=224': '"Ti/16", depth=2, image_size=32', "300": "2", "/tmp/": "./"}


@pytest.fixture
def place(tmp_path):
    """Returns a folder with the files that the code names: a run, a checkpoint and two photographs."""
    folder = tmp_path
    (folder / "vit_digits").mkdir()
    vit_jax.save(vit_jax.create("Ti/2", depth=1, image_size=8), folder / "vit_digits" / "model.npz")
    vit_jax.save(vit_jax.create("Ti/16", depth=1, image_size=32, mlp="gelu_erf"), folder / "ViT-B_16.npz")
    for name in ("one.png", "two.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(folder / name)
    return folder


def test_the_python_of_the_readme(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("TFDS_DATA_DIR", str(place))
    assert len(BLOCKS) == 2
    for block in BLOCKS:
        for written, smaller in SMALLER.items():
            block = block.replace(written, smaller)
        assert "/tmp" not in block
        exec(block, {"jax": jax, "vit_jax": vit_jax, "images": np.zeros((2, 32, 32, 3), np.uint8)})
    assert (place / "run" / "model.npz").exists() and vit_jax.load(place / "mine.npz").arch.num_classes == 10
