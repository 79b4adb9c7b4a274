"""The picture of augmented training images."""

import jax
import numpy as np
import pytest
from etils import epath
from PIL import Image

from vit_jax import UserError, data
from vit_jax import config as config_lib
from vit_jax.data import augment
from vit_jax.preparing import preview
from vit_jax.randomness import row_keys, stream_key


@pytest.fixture
def config():
    """Returns a config with 21 synthetic training images of 3 classes, 6 pixels high and 8 wide."""
    config = config_lib.default()
    config.data.name, config.data.num_examples, config.data.num_classes = "synthetic", 21, 3
    config.model.image_size, config.global_batch_size = (6, 8), 4
    config.total_steps, config.seed = 4, 3
    config.augmentation.flip, config.augmentation.brightness = True, 0.5
    return config


def test_the_picture(config, tmp_path):
    """A row has an image as the training gets it, and then what the steps 0, 1, … make of it in this row."""
    file = tmp_path / "picture.PNG"
    preview.write(config, file, rows=3, columns=2)
    with Image.open(file) as opened:
        picture = np.asarray(opened)
    assert picture.shape == (3 * 6 + 2 * 2, 3 * 8 + 2 * 2, 3)
    cells = [[picture[8 * r : 8 * r + 6, 10 * c : 10 * c + 8] for c in range(3)] for r in range(3)]
    assert (picture[6:8] == 255).all() and (picture[:, 8:10] == 255).all()
    images = next(iter(data.batches(config, rows=range(3))))["image"]
    settings = config_lib.typed(config).augmentation
    for step in range(2):
        keys = row_keys(jax.random.fold_in(stream_key(3, "augmentation"), step), 3)
        expected = augment.augment_pixels(images.astype(np.float32), keys, settings)
        for row in range(3):
            np.testing.assert_array_equal(cells[row][0], images[row])
            np.testing.assert_allclose(cells[row][1 + step], expected[row], atol=0.51)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.PNG"]


def test_mixing_is_shown(config):
    images = next(iter(data.batches(config, rows=range(3))))["image"]
    config.augmentation.flip, config.augmentation.brightness, config.augmentation.cutmix = False, 0.0, 1.0
    picture = preview.grid(images, config_lib.typed(config), 4)
    cells = [picture[:6, 10 * column : 10 * column + 8] for column in range(1, 5)]
    own, other = ([(cell == images[row]).all(-1) for cell in cells] for row in (0, 1))
    assert (np.array(own) | np.array(other)).all()
    assert np.array(other).any()


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("missing/a.png", 2, "there is no folder .*missing to write to; make it first"),
        ("there.png", 2, "there.png is there already; add --overwrite .*, or name another file"),
        ("folder.png", 2, "folder.png is a folder"),
        ("a.jpg", 2, "a.jpg is to be a PNG file; give it a name that ends in .png"),
        ("a.png", 0, "0 rows and 8 columns has no images"),
    ],
)
def test_what_cannot_be_written(config, tmp_path, name, rows, said):
    (tmp_path / "there.png").write_text("mine")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=said):
        preview.write(config, tmp_path / name, rows=rows)
    assert (tmp_path / "there.png").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_overwriting_and_a_full_disk(config, tmp_path, monkeypatch):
    file = tmp_path / "there.png"
    file.write_text("mine")

    def full(self, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(epath.Path(file)), "write_bytes", full)
        patch.setattr(preview, "grid", lambda *_: np.zeros((6, 18, 3), np.uint8))  # JAX writes files, too
        with pytest.raises(UserError, match=r"there.png can't be written .No space left on device.; name another file"):
            preview.write(config, file, rows=1, columns=1, overwrite=True)
    assert file.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    preview.write(config, file, rows=1, columns=1, overwrite=True)
    with Image.open(file) as picture:
        assert picture.size == (2 * 8 + 2, 6)
