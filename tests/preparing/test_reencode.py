"""Re-encoded images have the pixels that reading the originals gives, made smaller."""

import io

import numpy as np
import pytest
from PIL import Image

from helpers import images
from vit_jax.data import decode, jpeg_tiles
from vit_jax.preparing.reencode import reencoded
from vit_jax.preparing.settings import Encoding


def opened(file):
    return Image.open(io.BytesIO(file))


def pixels(picture):
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize("name", images.READABLE)
@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_every_kind_reads_as_its_original(name, exif):
    """With both settings of `config.data.exif`, the re-encoded image is the original, but for JPEG's loss."""
    original, _ = images.READABLE[name]
    made = reencoded(original, Encoding(64, 100))
    assert (opened(made).format, opened(made).mode) == ("JPEG", "RGB")
    expected, found = (pixels(decode.to_rgb(file, exif)) for file in (original, made))
    assert found.shape == expected.shape
    wrong = np.abs(found - expected).mean(-1)
    # At the edge between the halves, chroma at half the resolution shows.
    assert np.median(wrong) < 2 and (wrong > 8).mean() < 0.15


@pytest.mark.parametrize("name", images.UNREADABLE)
@pytest.mark.parametrize("shorter_side", [None, 16])
def test_unreadable_images_raise(name, shorter_side):
    with pytest.raises((OSError, ValueError, SyntaxError)):
        reencoded(images.UNREADABLE[name], Encoding(shorter_side, 90))


def test_only_plain_jpegs_that_are_small_enough_are_copied():
    for name, (content, _) in images.READABLE.items():
        copied = [reencoded(content, Encoding(side, 90)) == content for side in (None, 24, 23)]
        assert copied == [True, True, False] if name in ("colour.jpg", "turned.jpg") else not any(copied), name


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((500, 375), 292, (389, 292)),
        ((375, 500), 292, (292, 389)),
        ((300, 300), 292, (292, 292)),
        ((200, 900), 292, (200, 900)),
        ((20_000, 40), 10, (5_000, 10)),
        ((3, 7), 1, (1, 2)),
        ((1, 1), 1, (1, 1)),
    ],
)
def test_the_shorter_side_is_at_most_the_one_asked_for(size, side, expected):
    for kind in ("PNG", "JPEG"):
        assert opened(reencoded(images.encoded(images.halves(size=size), kind), Encoding(side, 90))).size == expected


def photograph(width, height):
    """Returns a smooth image with some detail, as photographs have."""
    x, y = np.meshgrid(np.linspace(0, 6, width), np.linspace(0, 5, height))
    channels = [np.sin(x * (k + 1)) * np.cos(y * (3 - k)) + 0.1 * np.sin(40 * x) for k in range(3)]
    return Image.fromarray(np.uint8(np.stack(channels, -1) * 100 + 128))


def test_reduced_by_pillows_bicubic_filter():
    """Also where libjpeg reduces large images as it decodes them, the result is close to that filter's alone."""
    for size, mode in (((700, 500), "RGB"), ((1600, 1200), "RGB"), ((1601, 1203), "L")):
        original = images.encoded(photograph(*size).convert(mode), "JPEG", quality=95)
        whole = decode.to_rgb(original)
        smaller = whole.resize((round(size[0] * 100 / size[1]), 100), Image.Resampling.BICUBIC)
        found = opened(reencoded(original, Encoding(100, 100)))
        assert found.size == smaller.size
        assert np.abs(pixels(found) - pixels(smaller)).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_stays_a_tag(orientation):
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        original = images.turned(
            kind, photograph(60, 40), orientation, **({"lossless": True} if kind == "WEBP" else {})
        )
        made = reencoded(original, Encoding(20, 100))
        for exif in ("ignore", "apply"):
            expected, found = (decode.for_evaluation(file, (8, 8), exif=exif).astype(int) for file in (original, made))
            assert np.abs(found - expected).mean() < 8, (kind, exif)  # turned otherwise, it is above 40


def test_all_else_is_dropped():
    exif = Image.Exif()
    exif[0x010E] = "a description"
    original = images.encoded(images.PICTURE, "JPEG", exif=exif, comment=b"a comment", icc_profile=b"a profile")
    made = reencoded(original, Encoding(10, 90))
    assert not any(text in made for text in (b"a description", b"a comment", b"a profile", b"Exif"))


def test_quality_and_chroma():
    original = images.encoded(photograph(64, 48), "PNG")
    coarse, fine = (reencoded(original, Encoding(None, quality)) for quality in (30, 95))
    assert len(coarse) < len(fine)
    expected = images.encoded(photograph(64, 48), "JPEG", quality=95, subsampling="4:2:0")
    assert opened(fine).quantization == opened(expected).quantization
    assert [layer[1:3] for layer in opened(fine).layer] == [(2, 2), (1, 1), (1, 1)]


def test_too_long_for_jpeg():
    with pytest.raises(ValueError, match="70,000 pixels, and JPEG holds 65,500"):
        reencoded(images.encoded(Image.new("L", (70_000, 1)), "PNG"), Encoding(8, 90))


def test_very_large_images_are_refused_as_when_they_are_read(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError, match="exceeds limit"):
        reencoded(images.encoded(images.PICTURE, "PNG"), Encoding(8, 90))


@pytest.mark.parametrize(("width_px", "tile"), [(1, 1), (30, 2), (48, 3), (292, 19), (389, 5), (438, 4), (464, 29)])
def test_restart_markers_divide_rows_evenly(width_px, tile):
    original = io.BytesIO()
    Image.new("RGB", (width_px, 40)).save(original, "PNG")
    file = reencoded(original.getvalue(), Encoding(None, 90))
    frame = jpeg_tiles.frame(file)
    assert frame.marked and frame.tile == (16, 16 * tile)
