"""Makes the file of an image smaller: the bytes of any image file become those of a JPEG.

The pixels are those that `data.decode.to_rgb` makes of the original: grey is repeated, palettes are looked up, CMYK is
converted, 16 bits are reduced to 8, transparent parts are drawn on white, and of an animation the first frame is taken.
"""

import io
import math
import warnings

from PIL import ExifTags, Image

from vit_jax.data import decode
from vit_jax.preparing.settings import Encoding

_BLOCK = 16  # pixels of a side of a block with 4:2:0
_TILE = 5  # blocks
_MOST_PIXELS = 65500  # a side, in JPEG, by libjpeg


def reencoded(image: bytes, encoding: Encoding) -> bytes:
    """Returns an image as a JPEG whose shorter side is at most `encoding.shorter_side`; none is enlarged.

    A file that is a JPEG of RGB already, not progressive, and small enough, is returned as it is. Others are resized by
    Pillow's bicubic filter, which smooths as it reduces, keep their aspect ratio to the pixel, and are written with
    chroma at half the resolution (4:2:0), as most photographs are, because that is the fastest to decode, and with a
    restart marker after every few blocks, with which a random crop decodes little more than its own pixels
    (data/jpeg_tiles.py). An EXIF orientation is kept as a tag and not applied, so that `config.data.exif` has the same
    effect as on the original; of all else that a file holds beside its pixels nothing is kept.

    Raises:
        OSError, ValueError or another error of PIL: `image` can't be read as an image, or is too long for JPEG.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of very large images and of damaged EXIF, which change nothing
        picture = Image.open(io.BytesIO(image))
        size = _smaller(picture.size, encoding.shorter_side)
        if size == picture.size and _is_plain_jpeg(picture):
            picture.load()  # raises if the file is cut off
            return image
        # libjpeg reduces by 2, 4 or 8 as it decodes. What it leaves is twice as large as needed, so that the filter
        # still decides how the result looks.
        drafted = picture.draft(None, (2 * size[0], 2 * size[1])) if size != picture.size else None
        rgb = decode.to_rgb(picture)
        if drafted is None:  # Pillow turns a TIFF as its orientation says when it loads the pixels
            size = _smaller(rgb.size, encoding.shorter_side)
        if max(size) > _MOST_PIXELS:
            raise ValueError(f"a side has {max(size):,} pixels, and JPEG holds {_MOST_PIXELS:,}")
        if rgb.size != size:
            rgb = rgb.resize(size, Image.Resampling.BICUBIC, box=drafted and drafted[1])
        return _jpeg(rgb, encoding.quality, _orientation(picture))


def _smaller(size: tuple[int, int], shorter_side: int | None) -> tuple[int, int]:
    """Returns the (width, height) of an image after its shorter side was reduced to `shorter_side`."""
    if shorter_side is None or min(size) <= shorter_side:
        return size
    longer = round(max(size) * shorter_side / min(size))
    return (longer, shorter_side) if size[0] > size[1] else (shorter_side, longer)


def _is_plain_jpeg(picture: Image.Image) -> bool:
    return picture.format == "JPEG" and picture.mode == "RGB" and not picture.info.get("progressive")


def _orientation(picture: Image.Image) -> int | None:
    """Returns the EXIF orientation that is left to apply after `picture` was loaded, or None if there is none."""
    try:
        found = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow raises many kinds of errors for damaged EXIF
        return None
    return found if found in range(2, 9) else None


def _jpeg(rgb: Image.Image, quality: int, orientation: int | None) -> bytes:
    exif = Image.Exif()
    if orientation:
        exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    rgb.info.clear()  # Pillow would copy some of it into the new file
    options = {"restart_marker_blocks": _tile(rgb.width), "exif": exif if orientation else b""}
    rgb.save(file, "JPEG", quality=quality, subsampling="4:2:0", **options)
    return file.getvalue()


def _tile(width_px: int) -> int:
    """Returns after how many blocks there is a restart marker, such that each row of them ends with one.

    Shorter tiles have less around a crop, and longer ones are decoded faster. Five blocks are about the best, and one
    or two are slower than a whole row.
    """
    blocks = -(-width_px // _BLOCK)
    possible = [number for number in range(1, blocks + 1) if blocks % number == 0 and number >= min(3, blocks)]
    return min(possible, key=lambda number: abs(math.log(number / _TILE)))
