"""An image folder to prepare, and how, in temporary folders."""

import numpy as np
import pytest
from etils import epath
from PIL import Image

from vit_jax import preparing
from vit_jax.preparing.settings import Encoding


@pytest.fixture
def photos(tmp_path):
    """Returns an image folder with 9 training and 6 test images of the classes cat, dog and eel, 20 to 60 pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog", "eel"):
            place = tmp_path / "photos" / split / name
            place.mkdir(parents=True)
            for i in range(count):
                size = rng.integers(20, 60, 2)
                image = Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize(size)
                image.save(place / f"{i}.{('png', 'jpg')[i % 2]}")
    return tmp_path / "photos"


@pytest.fixture
def prepare(tmp_path):
    """Returns a function that prepares a data set to tmp_path/out: `prepare("folder", folder, shards=2)`."""

    def make(dataset, data_dir, shorter_side=16, quality=90, out="out", **settings):
        encoding = Encoding(shorter_side, quality)
        place = epath.Path(tmp_path / out)
        return preparing.prepare(preparing.Settings(dataset, str(data_dir), place, encoding=encoding, **settings))

    return make
