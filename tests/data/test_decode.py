import io

import numpy as np
import pytest
from PIL import Image

from vit_jax.data import decode
from vit_jax.errors import UserError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOUR = np.stack([GREY, GREY.T, 255 - GREY], axis=-1)


def encoded(image, kind, **options):
    """The bytes of an array or of a PIL image in the format `kind`."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def same(image):
    return decode.for_evaluation(image, (8, 8))


def test_colour_comes_through():
    np.testing.assert_array_equal(same(encoded(COLOUR, "PNG")), COLOUR)
    np.testing.assert_array_equal(same(COLOUR), COLOUR)
    assert np.abs(same(encoded(COLOUR, "JPEG", quality=100, subsampling=0)).astype(int) - COLOUR).max() < 12


@pytest.mark.parametrize("image", [encoded(GREY, "PNG"), GREY, GREY[..., None]], ids=["png", "array", "one channel"])
def test_grey_is_repeated(image):
    np.testing.assert_array_equal(same(image), np.repeat(GREY[..., None], 3, -1))


def test_grey_jpeg():
    result = same(encoded(GREY, "JPEG", quality=100))
    assert np.ptp(result, axis=-1).max() == 0
    assert np.abs(result[..., 0].astype(int) - GREY).max() < 6


def test_sixteen_bits_are_scaled_and_not_clipped():
    wide = GREY.astype(np.uint16) * 257
    for image in (encoded(Image.fromarray(wide), "PNG"), wide):
        np.testing.assert_array_equal(same(image), np.repeat(GREY[..., None], 3, -1))


def test_palette_cmyk_and_one_bit():
    few = COLOUR // 128 * 128
    np.testing.assert_array_equal(same(encoded(Image.fromarray(few).quantize(8), "PNG")), few)
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    result = same(encoded(red, "JPEG", quality=100))
    assert result[..., 0].min() > 240
    assert result[..., 1:].max() < 15
    assert same(encoded(Image.new("1", (8, 8), 1), "PNG")).min() == 255


def test_transparent_is_white():
    clear = np.concatenate([COLOUR, np.zeros((8, 8, 1), np.uint8)], -1)
    clear[0, 0, 3] = 255
    for image in (encoded(clear, "PNG"), clear):
        result = same(image)
        np.testing.assert_array_equal(result[0, 0], COLOUR[0, 0])
        assert result[1:].min() == 255
    assert same(encoded(Image.new("LA", (8, 8), (0, 0)), "PNG")).min() == 255


def test_unreadable():
    whole = encoded(COLOUR, "JPEG")
    for broken in (b"", b"no image", whole[: len(whole) // 2], np.zeros((8, 8, 3), np.float32)):
        with pytest.raises((OSError, ValueError)):
            same(broken)


def test_evaluation_resizes_plainly_or_crops_the_centre():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    assert decode.for_evaluation(wide, (5, 6)).shape == (5, 6, 3)
    np.testing.assert_array_equal(decode.for_evaluation(wide, (10, 10), shorter_side=10), wide[:, 10:20])
    tall = decode.for_evaluation(np.zeros((33, 7, 3), np.uint8), (4, 6), shorter_side=8)
    assert tall.shape == (4, 6, 3)
    with pytest.raises(UserError, match="shorter_side=7 is smaller"):
        decode.for_evaluation(wide, (10, 8), shorter_side=7)


def test_random_crops_have_the_stated_areas_and_aspects():
    rng = np.random.default_rng(0)
    boxes = np.array([decode._random_box(400, 300, 0.05, rng) for _ in range(2000)])
    wide, high = (boxes[:, 2:] - boxes[:, :2]).T
    area, aspect = wide * high / 120000, wide / high
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 400
    assert boxes[:, 3].max() <= 300
    assert 0.04 < area.min() < 0.1
    assert area.max() > 0.8
    assert 0.4 < area.mean() < 0.52
    assert 0.73 < aspect.min() < 0.8
    assert 1.28 < aspect.max() < 1.36


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_random_crop_of_odd_images(shape):
    image = np.full((*shape, 3), 7, np.uint8)
    for seed in range(20):
        crop = decode.random_crop(image, (8, 8), 0.05, np.random.default_rng(seed))
        assert crop.shape == (8, 8, 3)
        assert crop.min() == crop.max() == 7


def test_file_of_another_kind():
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, "WEBP", lossless=True)
    np.testing.assert_array_equal(same(buffer.getvalue()), COLOUR)
