"""Cuts a part out of a JPEG without decoding it, so that a random crop decodes little more than its own pixels.

The bits of a JPEG can be decoded from its start, or from a restart marker. Rows below the crop are left out of any
baseline JPEG, by a header that says a smaller height. Everything around the crop is left out if restart markers divide
each row of blocks (of 8 or 16 pixels) into tiles of the same number of blocks; `vit_jax.prepare` writes such files.
Every other program reads them as it reads all JPEGs.
"""

import itertools
import re
from typing import NamedTuple

from vit_jax.data.resize import Size

Whole = tuple[int, int, int, int]  # whole pixels: left, upper, right, lower; the last two are outside of it

_SOF0, _DRI, _SOS = 0xC0, 0xDD, 0xDA  # markers: a baseline frame, the restart interval, a scan
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_MARKERS = [bytes((0xFF, 0xD0 + number)) for number in range(8)]
_END = b"\xff\xd9"


class Frame(NamedTuple):
    """What is needed to cut a file.

    Attributes:
        size: (height, width) of the image, in pixels.
        tile: (height, width) of a tile, in pixels; the last of a row may be narrower.
        height_at: where the header has the height, and two bytes later the width, in bytes.
        scan_at: where the data begin, in bytes.
        marked: whether there is a restart marker after each tile.
    """

    size: Size
    tile: Size
    height_at: int
    scan_at: int
    marked: bool


def frame(file: bytes) -> Frame | None:
    """Returns the frame of a baseline JPEG with all channels in one scan; None for any other file, or a cut-off one."""
    if not file.endswith(_END):
        return None
    at, found, interval = 2, None, 0
    while at + 4 <= len(file) and file[at] == 0xFF:
        marker, length = file[at + 1], int.from_bytes(file[at + 2 : at + 4], "big")
        if marker == _SOF0:
            found = at + 4
        elif marker == _DRI:
            interval = int.from_bytes(file[at + 4 : at + 6], "big")
        elif marker == _SOS:
            return _frame(file, found, interval, at) if found else None
        elif 0xC1 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return None  # progressive and other frames, which have several scans
        at += 2 + length
    return None


def _frame(file: bytes, sof: int, interval: int, sos: int) -> Frame | None:
    height, width_px = int.from_bytes(file[sof + 1 : sof + 3], "big"), int.from_bytes(file[sof + 3 : sof + 5], "big")
    channels = file[sof + 5]
    if file[sos + 4] != channels:
        return None
    sampling = [0x11] if channels == 1 else [file[sof + 7 + 3 * n] for n in range(channels)]  # one is never grouped
    across, down = 8 * max(s >> 4 for s in sampling), 8 * max(s & 15 for s in sampling)
    begin = sos + 2 + int.from_bytes(file[sos + 2 : sos + 4], "big")
    blocks = -(-width_px // across)
    marked = interval > 0 and blocks % interval == 0
    return Frame((height, width_px), (down, across * (interval if marked else blocks)), sof + 1, begin, marked)


def cut(file: bytes, frame: Frame, box: Whole) -> tuple[bytes, Whole, Size]:
    """Returns a JPEG with the pixels in a box and some around it, the box in that JPEG, and its size.

    Unless the file is marked, these are all pixels above its lower edge, and more data follow than the header says,
    which decoders may warn of.

    Args:
        file: the bytes of a JPEG.
        frame: its frame.
        box: the pixels that are needed.
    """
    left, upper, right, lower = box
    (height, width_px), (high, wide) = frame.size, frame.tile
    tiles = _RESTART.split(file[frame.scan_at :].removesuffix(_END)) if frame.marked else []
    across = -(-width_px // wide)
    if len(tiles) != across * -(-height // high):
        return b"".join([_head(file, frame, lower, width_px), file[frame.scan_at :]]), box, (lower, width_px)
    rows, columns = range(upper // high, -(-lower // high)), range(left // wide, -(-right // wide))
    first = rows[0] * high, columns[0] * wide
    size = min(rows[-1] * high + high, height) - first[0], min(columns[-1] * wide + wide, width_px) - first[1]
    parts = [_head(file, frame, *size)]
    for number, (row, column) in enumerate(itertools.product(rows, columns)):
        parts += [_MARKERS[(number - 1) % 8]] if number else []
        parts.append(tiles[row * across + column])
    part = left - first[1], upper - first[0], right - first[1], lower - first[0]
    return b"".join([*parts, _END]), part, size


def _head(file: bytes, frame: Frame, height: int, width_px: int) -> bytes:
    """Returns what stands before the data, with another size."""
    size = height.to_bytes(2, "big") + width_px.to_bytes(2, "big")
    return file[: frame.height_at] + size + file[frame.height_at + 4 : frame.scan_at]
