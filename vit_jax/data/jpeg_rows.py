"""Cuts rows out of a JPEG without decoding it, if it has a restart marker after each row of blocks.

The bits of a JPEG can be decoded from its start only, or from a restart marker. `vit_jax.prepare` writes a marker after
each row of blocks (of 8 or 16 pixels), so that a random crop decodes the rows that it needs and no others. Every other
program reads such files as it reads all JPEGs.
"""

import re
from typing import NamedTuple

_SOF0, _DRI, _SOS = 0xC0, 0xDD, 0xDA  # markers: a baseline frame, the restart interval, a scan
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_END = b"\xff\xd9"


class Frame(NamedTuple):
    """What is needed to cut a file.

    Attributes:
        size: (height, width) of the image, in pixels.
        row: the height of a row of blocks, in pixels.
        height_at: where the header has the height, in bytes.
        scan_at: where the data begin, in bytes.
    """

    size: tuple[int, int]
    row: int
    height_at: int
    scan_at: int


def frame(file: bytes) -> Frame | None:
    """Returns the frame of a JPEG with a restart marker after each row of blocks; None for any other file."""
    at, found, interval = 2, None, 0
    while at + 4 <= len(file) and file[at] == 0xFF:
        marker, length = file[at + 1], int.from_bytes(file[at + 2 : at + 4], "big")
        if marker == _SOF0:
            found = at + 4
        elif marker == _DRI:
            interval = int.from_bytes(file[at + 4 : at + 6], "big")
        elif marker == _SOS:
            return _frame(file, found, interval, at + 2 + length) if found and interval else None
        elif 0xC1 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return None  # progressive and other frames, which have several scans
        at += 2 + length
    return None


def _frame(file: bytes, sof: int, interval: int, scan_at: int) -> Frame | None:
    height, width_px = int.from_bytes(file[sof + 1 : sof + 3], "big"), int.from_bytes(file[sof + 3 : sof + 5], "big")
    sampling = [file[sof + 7 + 3 * channel] for channel in range(file[sof + 5])]
    if len(sampling) == 1:  # blocks of a single channel are not grouped
        sampling = [0x11]
    across, down = 8 * max(s >> 4 for s in sampling), 8 * max(s & 15 for s in sampling)
    return Frame((height, width_px), down, sof + 1, scan_at) if interval == -(-width_px // across) else None


def cut(file: bytes, frame: Frame, upper: int, lower: int) -> tuple[bytes, int, tuple[int, int]]:
    """Returns a JPEG of the rows of blocks that hold the pixels from `upper` to `lower`, its first row, and its size.

    A file that does not have as many rows as its header says is returned whole.
    """
    first, last = upper // frame.row, -(-lower // frame.row)
    rows = _RESTART.split(file[frame.scan_at :].removesuffix(_END))
    if len(rows) != -(-frame.size[0] // frame.row):
        return file, 0, frame.size
    height = min(last * frame.row, frame.size[0]) - first * frame.row
    parts = [file[: frame.height_at], height.to_bytes(2, "big"), file[frame.height_at + 2 : frame.scan_at]]
    for number, row in enumerate(rows[first:last]):
        parts += [bytes((0xFF, 0xD0 + (number - 1) % 8)), row] if number else [row]
    return b"".join([*parts, _END]), first * frame.row, (height, frame.size[1])
