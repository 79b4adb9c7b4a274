"""Reads the files that users give to the page, and says in one sentence why one can't be read."""

import io
import pathlib
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from vit_jax.data.messages import in_words
from vit_jax.data.read import prepared
from vit_jax.errors import UserError

MEGAPIXELS = 100  # the largest image

# Pillow reads more formats, some of them by other programs, which must not run on the files of strangers. Cameras
# write MPO, whose first image is a JPEG.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")


def read(path: pathlib.Path, preprocessing: Any) -> UInt8[np.ndarray, "height width_px 3"]:
    """Returns an image file as a model sees it: turned as its EXIF says, and the first image of several.

    Args:
        path: the file. Messages give its name without the folder, which is not the user's.
        preprocessing: the `Preprocessing` of the model.

    Raises:
        UserError: it is no image of a known format, or too large, or damaged.
    """
    content = path.read_bytes()
    try:
        if _pixels(content) > MEGAPIXELS * 10**6:
            raise Image.DecompressionBombError
        return prepared(content, preprocessing)
    except UnidentifiedImageError:
        kinds = "JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF"
        raise UserError(f"{path.name} is no image that this page reads; give a file of the kind {kinds}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path.name} has more than {MEGAPIXELS} megapixels; give a smaller image") from None
    except Exception as error:  # decoders raise many kinds of errors
        raise UserError(
            f"{path.name} can't be read ({in_words(error)}); save it anew, or give another image"
        ) from error


def _pixels(content: bytes) -> int:
    """Returns the number of pixels that the head of an image file tells. Raises the errors of Pillow."""
    Image.init()
    with Image.open(io.BytesIO(content), formats=[kind for kind in _FORMATS if kind in Image.OPEN]) as opened:
        return opened.width * opened.height
