import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from vit_jax.data import decode, jpeg_tiles


def jpeg(height, width_px, subsampling, mode="RGB", **options):
    random = np.random.default_rng(height)
    smooth = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).resize((width_px, height)).convert(mode)
    buffer = io.BytesIO()
    smooth.save(buffer, "JPEG", quality=90, **({"restart_marker_rows": 1} | options), subsampling=subsampling)
    return buffer.getvalue()


def blocks(width_px, subsampling, mode):
    """Returns how many blocks a row has."""
    return -(-width_px // (16 if subsampling and mode == "RGB" else 8))


@pytest.mark.parametrize("marked", ["rows", "tiles", "single blocks", "not", "across rows"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize(("height", "width_px"), [(100, 75), (16, 96), (7, 9), (300, 33)])
def test_parts_are_those_of_the_whole(height, width_px, subsampling, mode, marked):
    count = blocks(width_px, subsampling, mode)
    interval = {"tiles": count // 2 if count % 2 == 0 else count, "single blocks": 1, "across rows": count + 1}
    marks = {"restart_marker_rows": int(marked == "rows"), "restart_marker_blocks": interval.get(marked, 0)}
    file = jpeg(height, width_px, subsampling, mode, **marks)
    frame = jpeg_tiles.frame(file)
    assert frame.size == (height, width_px)
    assert frame.marked == (marked in ("rows", "tiles", "single blocks"))
    options = {"fastdct": True, "fastupsample": True}
    whole = simplejpeg.decode_jpeg(file, "RGB", **options)
    for upper, lower in [(0, height), (0, 1), (height - 1, height), (height // 3, height // 2 + 1)]:
        for left, right in [(0, width_px), (0, 1), (width_px - 1, width_px), (width_px // 3, width_px // 2 + 1)]:
            cut, part, size = jpeg_tiles.cut(file, frame, (left, upper, right, lower))
            found = simplejpeg.decode_jpeg(cut, "RGB", **options, strict=frame.marked)
            assert size == found.shape[:2]
            np.testing.assert_array_equal(found[part[1] : part[3], part[0] : part[2]], whole[upper:lower, left:right])
            assert (right - left, lower - upper) == (part[2] - part[0], part[3] - part[1])
            if frame.marked:
                assert part[0] < frame.tile[1] and part[1] < frame.tile[0]
                assert size[0] - part[3] < frame.tile[0] and size[1] - part[2] < frame.tile[1]
            else:
                assert part == (left, upper, right, lower) and size == (lower, width_px)
            assert len(cut) <= len(file)


def test_what_is_read_whole():
    assert jpeg_tiles.frame(jpeg(100, 75, 2, progressive=True)) is None
    file = jpeg(100, 75, 2)
    assert all(jpeg_tiles.frame(file[:end]) is None for end in range(2, len(file) - 1, 7))
    lacking = file.replace(b"\xff\xd3", b"\xff\x00", 1)  # one marker fewer than rows
    assert jpeg_tiles.cut(lacking, jpeg_tiles.frame(lacking), (5, 10, 70, 20))[1:] == ((5, 10, 70, 20), (20, 75))


@pytest.mark.parametrize("marks", [{"restart_marker_rows": 1}, {"restart_marker_rows": 0, "restart_marker_blocks": 5}])
@pytest.mark.parametrize("size", [(16, 16), (64, 64)])
def test_random_crops_of_files_with_and_without_markers_are_the_same(size, marks):
    marked, plain = jpeg(260, 320, 2, **marks), jpeg(260, 320, 2, restart_marker_rows=0)
    assert jpeg_tiles.frame(marked).marked and not jpeg_tiles.frame(plain).marked
    for seed in range(20):
        crops = [decode.random_crop(file, size, 0.05, np.random.default_rng(seed)) for file in (marked, plain)]
        np.testing.assert_array_equal(*crops)
