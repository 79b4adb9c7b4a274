"""`vit_jax.show` draws the pixels that it is given, in order, and refuses what it can't understand."""

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image
from PIL import Image

import vit_jax
from helpers.images import halves, turned
from helpers.pictures import pictures
from vit_jax import UserError


def drawn(figure):
    """Returns the arrays of a figure's images, in order."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def rows(figure):
    """Returns how many images each row has, from the top to the bottom."""
    bottoms = [round(axes.get_position().y0, 4) for axes in figure.axes]
    assert bottoms == sorted(bottoms, reverse=True)
    return [bottoms.count(bottom) for bottom in sorted(set(bottoms), reverse=True)]


@pytest.mark.parametrize("kind", ["uint8", "int64", "float32", "list", "PIL", "files", "folder", "jax"])
def test_pixels(tmp_path, kind):
    images = pictures(3, 12, 10)
    for index, each in enumerate(images):
        Image.fromarray(each).save(tmp_path / f"{index}.png")
    given = {
        "uint8": images,
        "int64": images.astype(np.int64),
        "float32": images.astype(np.float32) / 255,
        "list": [images[0] / 255, images[1], Image.fromarray(images[2])],
        "PIL": [Image.fromarray(each) for each in images],
        "files": [tmp_path / "0.png", str(tmp_path / "1.png"), tmp_path / "2.png"],
        "folder": tmp_path,
        "jax": jnp.asarray(images),
    }[kind]
    for found, expected in zip(drawn(vit_jax.show(given)), images, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_kinds_of_images(tmp_path):
    """A photograph is turned, grey and transparent images become RGB, and a single image needs no list."""
    (tmp_path / "turned.jpg").write_bytes(turned("JPEG", halves()))
    found = drawn(vit_jax.show(str(tmp_path / "turned.jpg")))[0]
    assert found.shape == (32, 24, 3) and found[4, 12, 0] > 150 and found[-4, 12, 2] > 150
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(drawn(vit_jax.show([grey]))[0], np.stack([grey] * 3, -1))
    clear = np.zeros((8, 8, 4), np.uint8)
    assert (drawn(vit_jax.show(clear))[0] == 255).all()
    assert max(drawn(vit_jax.show(np.zeros((3000, 1500, 3), np.uint8)))[0].shape) == 1024


def test_grid_and_titles():
    images = pictures(7, 8, 8)
    figure = vit_jax.show(images, ["a title that is longer than its image", *range(6)], columns=3, height=1)
    assert rows(figure) == [3, 3, 1]
    assert [axes.get_title() for axes in figure.axes][1:] == list("012345")
    first = figure.axes[0].get_title().splitlines()
    assert len(first) > 1 and " ".join(first) == "a title that is longer than its image"
    assert rows(vit_jax.show(images)) == [6, 1]  # six squares of 1.5 inches
    assert rows(vit_jax.show(images[:2], columns=5)) == [2]
    assert [axes.get_title() for axes in vit_jax.show(images[0], "one").axes] == ["one"]


def test_a_notebook_gets_the_pixels(tmp_path):
    """In the PNG, the centre of each half of an image has its colour."""
    figure = vit_jax.show(halves(size=(40, 40)))
    (tmp_path / "figure.png").write_bytes(figure._repr_png_())
    found = image.imread(tmp_path / "figure.png")[..., :3] * 255
    height, width_px = found.shape[:2]
    np.testing.assert_allclose(found[height // 2, [width_px // 4, width_px * 3 // 4]], [(200, 30, 40), (20, 60, 180)])


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        ([], {}, "give at least one"),
        (np.zeros((0, 8, 8, 3), np.uint8), {}, "give at least one"),
        (5, {}, "give arrays, PIL images or paths"),
        ("missing.png", {}, "no image or folder missing.png"),
        (np.zeros((2, 3, 8, 8)), {}, r"shape \(2, 3, 8, 8\) is no batch"),
        (np.zeros((2, 8, 8)), {}, "of grey images, give a list"),
        (np.linspace(-1, 1, 192).reshape(1, 8, 8, 3), {}, "floats from -1 to 1, .*model.preprocessing"),
        (np.full((1, 8, 8, 3), np.nan), {}, "floats from nan to nan"),
        ([np.full((8, 8, 3), 256)], {}, "integers from 256 to 256"),
        ([np.zeros((8, 8, 3), bool)], {}, "of type bool"),
        ([np.zeros((8, 8, 2), np.uint8)], {}, r"image 0 has the shape \(8, 8, 2\)"),
        (np.zeros((401, 1, 1, 3), np.uint8), {}, "401 images are too many"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"titles": ["a"]}, "1 titles for 2 images"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"columns": 0}, "columns=0"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"height": 0}, "height=0"),
    ],
)
def test_refusals(images, options, said):
    with pytest.raises(UserError, match=said) as error:
        vit_jax.show(images, **options)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(UserError, match="a.png can't be read as an image"):
        vit_jax.show([tmp_path / "a.png"])
