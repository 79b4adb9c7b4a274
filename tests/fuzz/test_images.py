"""Damaged images."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from helpers.damage import damaged_bytes
from vit_jax import config as config_lib
from vit_jax import data

pytestmark = pytest.mark.slow
KINDS = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM")


@pytest.mark.parametrize("kind", KINDS)
def test_images(kind, tmp_path, cases, caplog):
    """A damaged image is read, or it is replaced and named in a warning."""
    rng, place = np.random.default_rng(0), tmp_path / "train" / "a"
    place.mkdir(parents=True)
    picture, buffer = Image.fromarray(rng.integers(0, 256, (24, 20, 3), np.uint8)), io.BytesIO()
    picture.save(buffer, kind)
    picture.save(place / "sound.png")
    config = config_lib.default()
    config.data.name, config.data.data_dir, config.data.threads = "folder", str(tmp_path), 1
    config.model.image_size, config.global_batch_size, config.total_steps = 8, 4, 1
    for number in range(60):
        what, content = damaged_bytes(buffer.getvalue(), rng, len(buffer.getvalue()) if number % 2 else 64)
        damaged = place / f"damaged{number}.{kind.lower()}"
        damaged.write_bytes(content)
        caplog.clear()
        with cases.case(what):
            with contextlib.closing(data.batches(config)) as batches:
                batch = next(batches)
            assert batch["image"].shape == (4, 8, 8, 3) and batch["mask"].all()
            lacking = {0, 1} - set(batch["index"].tolist())
            assert not lacking or str(damaged) in caplog.text, f"{damaged} is missing and not named"
        damaged.unlink()
