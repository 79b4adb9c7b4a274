import io

import numpy as np
import pytest
from PIL import Image

from vit_jax.data import decode
from vit_jax.errors import UserError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOUR = np.stack([GREY, GREY.T, 255 - GREY], axis=-1)


def encoded(image, kind, **options):
    """Returns the bytes of an image file in the format `kind`; the image is an array or a PIL image."""
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


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
def test_the_interpolation_is_pillows(interpolation):
    image = np.random.default_rng(0).integers(0, 256, (23, 40, 3), np.uint8)
    picture, method = Image.fromarray(image), Image.Resampling[interpolation.upper()]
    whole = decode.for_evaluation(image, (5, 6), interpolation=interpolation)
    np.testing.assert_array_equal(whole, picture.resize((6, 5), method))
    # The width is 40 * 9 / 23 = 15.65, which torchvision rounds to 15. The centre then starts at 3.5, rounded to 4.
    centre = np.asarray(picture.resize((15, 9), method))[0:8, 4:12]
    np.testing.assert_array_equal(decode.for_evaluation(image, (8, 8), 9, interpolation=interpolation), centre)
    crop = decode.random_crop(image, (8, 8), 1.0, np.random.default_rng(1), interpolation=interpolation)
    box = decode._random_box((23, 40), 1.0, np.random.default_rng(1))
    np.testing.assert_array_equal(crop, picture.crop(box).resize((8, 8), method))


def test_what_a_crop_is_taken_from():
    """As in timm, the resized image keeps its aspect ratio and covers the box, or it is stretched to the box."""
    assert decode._covering((375, 500), (224, 224), 256, True) == (256, 341)
    assert decode._covering((375, 500), (224, 224), 256, False) == (256, 256)
    assert decode._covering((400, 300), (256, 128), 142, True) == (284, 213)
    assert decode._covering((400, 100), (256, 128), 142, True) == (568, 142)
    assert decode._covering((375, 500), (256, 128), 142, False) == (284, 142)
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    squashed = np.asarray(Image.fromarray(image).resize((12, 12), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(decode.for_evaluation(image, (8, 8), 12, keep_aspect=False), squashed[2:10, 2:10])


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (1, 100_000)])
def test_evaluation_of_images_one_pixel_high_or_wide(shape):
    """One of these images would take gigabytes if it were resized as a whole."""
    image = np.full((*shape, 3), 7, np.uint8)
    for shorter_side in (None, 224, 256):
        result = decode.for_evaluation(image, (224, 224), shorter_side, interpolation="bicubic")
        assert result.shape == (224, 224, 3)
        assert result.min() == result.max() == 7


def test_the_centre_of_a_very_long_image(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (20, 90, 3), np.uint8)
    whole = decode.for_evaluation(image, (8, 8), 16)
    monkeypatch.setattr(decode, "_WHOLE_PIXELS", 0)
    assert np.abs(decode.for_evaluation(image, (8, 8), 16).astype(int) - whole).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(kind):
    """The orientation is only applied with exif="apply", to whole images, centre crops and random crops."""
    exif = Image.Exif()
    exif[0x0112] = 6  # viewers turn the image clockwise by 90 degrees
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 8:] = 255
    file = encoded(wide, kind, exif=exif, quality=100)
    turned = np.rot90(wide, -1)
    for exif, shown in (("ignore", wide), ("apply", turned)):
        for options in ({}, {"shorter_side": 8}):
            expected = decode.for_evaluation(shown, (8, 8), **options).astype(int)
            assert np.abs(decode.for_evaluation(file, (8, 8), exif=exif, **options) - expected).max() < 60
    crop = decode.random_crop(file, (8, 8), 0.9, np.random.default_rng(0), exif="apply")
    assert crop[0].mean() < 60
    assert crop[-1].mean() > 200


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("at", [6, 9, 13, 17])
@pytest.mark.parametrize("cut", [None, 14])
def test_damaged_exif_turns_nothing(at, cut):
    exif = Image.Exif()
    exif[0x0112] = 6
    damaged = bytearray(exif.tobytes()[:cut])
    damaged[min(at, len(damaged) - 1)] ^= 0xFF
    file = encoded(COLOUR, "PNG", exif=bytes(damaged))
    np.testing.assert_array_equal(decode.for_evaluation(file, (8, 8), exif="apply"), COLOUR)


def test_random_crops_have_the_stated_areas_and_aspects():
    rng = np.random.default_rng(0)
    boxes = np.array([decode._random_box((300, 400), 0.05, rng) for _ in range(2000)])
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


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "BMP", "PPM", "TGA"])
def test_files_of_other_kinds(kind):
    np.testing.assert_array_equal(same(encoded(COLOUR, kind, **({"lossless": True} if kind == "WEBP" else {}))), COLOUR)


def test_of_several_frames_the_first_is_taken():
    few = [Image.fromarray(image // 128 * 128).quantize(8) for image in (COLOUR, 255 - COLOUR)]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        file = encoded(few[0].convert("RGB"), kind, save_all=True, append_images=[few[1].convert("RGB")], **options)
        assert getattr(Image.open(io.BytesIO(file)), "n_frames", 1) == 2
        np.testing.assert_array_equal(same(file), COLOUR // 128 * 128)


def test_wide_and_printed_tiffs():
    wide = Image.fromarray(GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(same(encoded(wide, "TIFF")), np.repeat(GREY[..., None], 3, -1))
    red = same(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))
    np.testing.assert_array_equal(red, np.broadcast_to(np.uint8([255, 0, 0]), (8, 8, 3)))
    with pytest.raises(ValueError, match="floating-point"):
        same(encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"))


def smooth(height, width_px):
    """Returns an image with waves of several lengths, as photographs have."""
    y, x = np.mgrid[:height, :width_px]
    waves = [np.sin(x / a + y / b + c) for a, b, c in [(3, 17, 0), (29, 5, 1), (11, 13, 2), (90, 40, 3)]]
    return np.stack([127 + 30 * (waves[i] + waves[i + 1] + waves[0]) for i in range(3)], -1).astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 48), (37, 150), (224, 224)])
def test_both_ways_to_resize_are_tensorflows(size):
    import tensorflow as tf

    image = smooth(151, 203)
    for antialias in (True, False):
        expected = tf.image.resize(image, size, antialias=antialias).numpy()
        difference = np.abs(decode.for_evaluation(image, size, antialias=antialias) - expected)
        assert difference.max() <= 2 and difference.mean() <= 0.5
        if size == (64, 48):  # much smaller, so that the two ways differ
            assert np.abs(decode.for_evaluation(image, size, antialias=not antialias) - expected).max() > 5


def test_centre_crops_and_random_crops_without_antialias(monkeypatch):
    image = smooth(90, 120)
    whole = decode.for_evaluation(image, (24, 32), antialias=False)
    centre = decode.for_evaluation(image, (16, 16), 24, antialias=False)
    np.testing.assert_array_equal(centre, whole[4:20, 8:24])
    monkeypatch.setattr(decode, "_WHOLE_PIXELS", 0)
    parted = decode.for_evaluation(image, (16, 16), 24, antialias=False)
    assert np.abs(parted.astype(int) - centre).max() <= 2
    left, upper, right, lower = decode._random_box((90, 120), 0.2, np.random.default_rng(3))
    crop = decode.random_crop(image, (16, 16), 0.2, np.random.default_rng(3), antialias=False)
    part = np.ascontiguousarray(image[upper:lower, left:right])
    np.testing.assert_array_equal(crop, decode.for_evaluation(part, (16, 16), antialias=False))


def whole(file, exif="ignore"):
    """Returns the pixels that random crops are taken from."""
    picture = Image.open(io.BytesIO(file))
    size = (picture.height, picture.width)
    size = size[::-1] if exif == "apply" and picture.getexif().get(0x0112) == 6 else size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "_random_box", lambda given, *_: (0, 0, given[1], given[0]))
        return decode.random_crop(file, size, 1.0, np.random.default_rng(0), exif=exif)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_random_crops_have_nearly_the_pixels_of_pillow(subsampling):
    assert_near(encoded(smooth(75, 101), "JPEG", quality=90, subsampling=subsampling))


def assert_near(file, exif="ignore"):
    difference = np.abs(whole(file, exif).astype(int) - np.asarray(decode.to_rgb(file, exif)))
    assert difference.max() <= 16 and difference.mean() < 3


def test_what_libjpeg_turbo_alone_would_read_otherwise(monkeypatch):
    """Turned, printed, damaged and too large JPEGs are read, or refused, as all other files are."""
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = smooth(8, 16)
    for picture in (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), Image.fromarray(wide).convert("L"), wide):
        for how in ("ignore", "apply"):
            file = encoded(picture, "JPEG", quality=100, exif=exif)
            assert_near(file, how)
    plain = encoded(wide, "JPEG")
    padded = plain[:-2] + b"\0" * 9 + plain[-2:]  # Pillow reads it
    assert_near(padded)
    np.testing.assert_array_equal(whole(padded), whole(plain))
    trailed = plain + b"\0" * 9  # read whole, and with a warning, so by Pillow
    np.testing.assert_array_equal(whole(trailed), whole(plain))
    for broken in (plain[:-30], plain[:2], plain[:4] + b"\0" * 100):
        with pytest.raises((OSError, ValueError)):
            decode.random_crop(broken, (8, 8), 1.0, np.random.default_rng(0))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(Image.DecompressionBombError):
        decode.random_crop(plain, (8, 8), 1.0, np.random.default_rng(0))


@pytest.mark.parametrize(("side", "scale"), [(60, 1), (130, 2), (600, 8)])
def test_large_jpegs_are_reduced_while_they_are_decoded(side, scale):
    image = np.array(Image.fromarray(smooth(60, 60)).resize((side, side), Image.Resampling.BICUBIC))
    assert decode._reduction((side, side), (64, 64)) == scale
    crop = decode.random_crop(encoded(image, "JPEG", quality=95), (64, 64), 1.0, np.random.default_rng(0))
    expected = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(crop - expected).mean() < 2.5
    assert decode._reduction((130, 127), (64, 64)) == 1


def test_a_cut_at_a_random_position():
    image = smooth(40, 60)
    whole = np.asarray(Image.fromarray(image).resize((45, 30), Image.Resampling.BILINEAR))
    found = set()
    for seed in range(40):
        cut = decode.for_evaluation(image, (28, 30), 30, rng=np.random.default_rng(seed))
        places = [(y, x) for y in range(3) for x in range(16) if np.array_equal(whole[y : y + 28, x : x + 30], cut)]
        found.update(places)
        assert len(places) == 1
    assert {y for y, _ in found} == set(range(3)) and len({x for _, x in found}) > 10
