"""What becomes of image files of every kind, from a folder to a batch."""

import numpy as np
import pytest

from helpers import images
from vit_jax import data
from vit_jax.data.spec import Spec
from vit_jax.errors import UserError


def read(folder, **options):
    """Returns the batch of all examples of an image folder, at 8x8 pixels, and the name of each example's file."""
    with data.open(Spec("folder", data_dir=str(folder), size=(8, 8), **options)) as dataset:
        (batch,) = dataset.examples(len(dataset))
        names = [dataset._source.describe(i).rpartition("/")[2] for i in range(len(dataset))]
    return names, batch


def test_every_kind_becomes_rgb(tmp_path):
    images.write(tmp_path, {name: content for name, (content, _) in images.READABLE.items()})
    names, batch = read(tmp_path, corrupt="fail")
    assert sorted(names) == sorted(images.READABLE)
    for name, image in zip(names, batch["image"].astype(int), strict=True):
        left, right = images.READABLE[name][1]
        assert np.abs(image[:, :3] - left).max() < 6, name
        assert np.abs(image[:, 5:] - right).max() < 6, name


def test_photographs_are_turned_if_asked(tmp_path):
    images.write(tmp_path, {"turned.jpg": images.READABLE["turned.jpg"][0]})
    (image,) = read(tmp_path, exif="apply")[1]["image"].astype(int)
    assert np.abs(image[:3] - images.RED).max() < 6
    assert np.abs(image[5:] - images.BLUE).max() < 6


def test_unreadable_files_are_named_with_the_reason(tmp_path, caplog):
    images.write(tmp_path, {**images.UNREADABLE, "good.png": images.READABLE["colour.png"][0]})
    names, batch = read(tmp_path)
    assert [name for name, mask in zip(names, batch["mask"], strict=True) if mask] == ["good.png"]
    for name in images.UNREADABLE:
        (said,) = [r.getMessage() for r in caplog.records if f"all/{name} " in r.getMessage()]
        assert "can't be read (" in said and "left out" in said
    with pytest.raises(UserError, match=r"train/all/\w+.(jpg|png) can't be read"):
        read(tmp_path, corrupt="fail")
