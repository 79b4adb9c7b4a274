"""Reading image files as input for a model."""

import pathlib
import types

import numpy as np
import pytest
from PIL import Image

import vit_jax
from vit_jax import UserError
from vit_jax.data import decode
from vit_jax.models.architecture import Preprocessing


@pytest.fixture
def files(tmp_path):
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 8
    for i in range(3):
        image = Image.fromarray(rng.integers(0, 256, (20, 30 + i, 3), np.uint8))
        image.save(tmp_path / f"{i}.png", **({"exif": exif} if i == 2 else {}))
    return [tmp_path / f"{i}.png" for i in range(3)]


@pytest.mark.parametrize(
    "settings",
    [
        Preprocessing((8, 12)),
        Preprocessing((8, 8), 9, interpolation="bicubic"),
        Preprocessing((8, 8), 10, interpolation="lanczos", keep_aspect=False),
    ],
)
def test_by_the_models_preprocessing(files, settings):
    model = types.SimpleNamespace(preprocessing=settings)
    options = {"interpolation": settings.interpolation, "keep_aspect": settings.keep_aspect, "exif": "apply"}
    expected = [decode.for_evaluation(f.read_bytes(), settings.size, settings.shorter_side, **options) for f in files]
    for paths in (files, list(map(str, files)), iter(files)):
        images = vit_jax.read_images(paths, model)
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, np.stack(expected))
    for path in (files[2], str(files[2])):
        np.testing.assert_array_equal(vit_jax.read_images(path, model), expected[2][None])
    unturned = decode.for_evaluation(files[2].read_bytes(), settings.size)
    assert (expected[2] != unturned).any()


def test_errors_name_the_file(files, tmp_path):
    model = types.SimpleNamespace(preprocessing=Preprocessing((8, 8)))
    pathlib.Path(tmp_path / "text.png").write_text("hello")
    with pytest.raises(UserError, match=r"text.png can't be read as an image \(UnidentifiedImageError\)"):
        vit_jax.read_images([files[0], tmp_path / "text.png"], model)
    with pytest.raises(UserError, match=r"there is no image file .*none.png"):
        vit_jax.read_images([files[0], tmp_path / "none.png"], model)
    with pytest.raises(UserError, match="got no path"):
        vit_jax.read_images([], model)
