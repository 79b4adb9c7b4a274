import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from vit_jax.data import decode, jpeg_rows


def jpeg(height, width_px, subsampling, mode="RGB", **options):
    random = np.random.default_rng(height)
    smooth = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).resize((width_px, height)).convert(mode)
    buffer = io.BytesIO()
    smooth.save(buffer, "JPEG", quality=90, **({"restart_marker_rows": 1} | options), subsampling=subsampling)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "marks", [{}, {"restart_marker_rows": 0}, {"restart_marker_rows": 0, "restart_marker_blocks": 7}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize(("height", "width_px"), [(100, 75), (16, 40), (7, 9), (300, 33)])
def test_rows_are_those_of_the_whole(height, width_px, subsampling, mode, marks):
    file = jpeg(height, width_px, subsampling, mode, **marks)
    frame = jpeg_rows.frame(file)
    assert frame.size == (height, width_px) and frame.marked == (not marks)
    options = {"fastdct": True, "fastupsample": True}
    whole = simplejpeg.decode_jpeg(file, "RGB", **options)
    for upper, lower in [(0, height), (0, 1), (height - 1, height), (height // 3, height // 2 + 1)]:
        part, first, size = jpeg_rows.cut(file, frame, upper, lower)
        found = simplejpeg.decode_jpeg(part, "RGB", **options, strict=frame.marked)
        np.testing.assert_array_equal(found, whole[first : first + len(found)])
        assert size == found.shape[:2]
        assert first <= upper and lower <= first + len(found) < lower + frame.row
        assert first == 0 if marks else upper - first < frame.row
        assert len(part) <= len(file)


def test_what_is_read_whole():
    assert jpeg_rows.frame(jpeg(100, 75, 2, progressive=True)) is None
    file = jpeg(100, 75, 2)
    assert all(jpeg_rows.frame(file[:end]) is None for end in range(2, len(file) - 1, 7))
    lacking = file.replace(b"\xff\xd3", b"\xff\x00", 1)  # one marker fewer than rows
    assert jpeg_rows.cut(lacking, jpeg_rows.frame(lacking), 10, 20)[1:] == (0, (20, 75))


@pytest.mark.parametrize("size", [(16, 16), (64, 64)])
def test_random_crops_of_files_with_and_without_markers_are_the_same(size):
    marked, plain = jpeg(260, 300, 2), jpeg(260, 300, 2, restart_marker_rows=0)
    for seed in range(20):
        crops = [decode.random_crop(file, size, 0.05, np.random.default_rng(seed)) for file in (marked, plain)]
        np.testing.assert_array_equal(*crops)
