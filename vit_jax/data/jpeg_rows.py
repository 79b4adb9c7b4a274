"""Cuts rows out of a JPEG without decoding it, so that a random crop decodes little more than its own rows.

The bits of a JPEG can be decoded from its start, or from a restart marker. Rows below the crop are left out of any
baseline JPEG, by a header that says a smaller height. Rows above it can be left out as well if there is a marker after
each row of blocks (of 8 or 16 pixels); `vit_jax.prepare` writes such files. Every other program reads them as it reads
all JPEGs.
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
        marked: whether there is a restart marker after each row of blocks.
    """

    size: tuple[int, int]
    row: int
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
    return Frame((height, width_px), down, sof + 1, begin, interval == -(-width_px // across))


def cut(file: bytes, frame: Frame, upper: int, lower: int) -> tuple[bytes, int, tuple[int, int]]:
    """Returns a JPEG with the pixels from row `upper` to row `lower`, the number of its first row, and its size.

    Unless the file is marked, more data follow than the header says, which decoders may warn of.
    """
    before, after = file[: frame.height_at], frame.height_at + 2
    rows = _RESTART.split(file[frame.scan_at :].removesuffix(_END)) if frame.marked else []
    if len(rows) != -(-frame.size[0] // frame.row):
        return b"".join([before, lower.to_bytes(2, "big"), file[after:]]), 0, (lower, frame.size[1])
    first, last = upper // frame.row, -(-lower // frame.row)
    height = min(last * frame.row, frame.size[0]) - first * frame.row
    parts = [before, height.to_bytes(2, "big"), file[after : frame.scan_at]]
    for number, row in enumerate(rows[first:last]):
        parts += [bytes((0xFF, 0xD0 + (number - 1) % 8)), row] if number else [row]
    return b"".join([*parts, _END]), first * frame.row, (height, frame.size[1])
