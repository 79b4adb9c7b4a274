"""Reads the files that users give to the page, and says in one sentence why one can't be read."""

import io
import pathlib
import warnings
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from vit_jax.data.messages import in_words
from vit_jax.data.read import prepared
from vit_jax.errors import UserError

# Pillow reads more formats, some of them by other programs, which must not run on the files of strangers. Cameras
# write MPO, whose first image is a JPEG.
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")


def read(path: pathlib.Path, preprocessing: Any) -> UInt8[np.ndarray, "height width_px 3"]:
    """Returns an image file as a model sees it: turned as its EXIF says, and the first image of several.

    Args:
        path: the file. Messages give its name without the folder, which is not the user's.
        preprocessing: the `Preprocessing` of the model.

    Raises:
        UserError: it is no image of a known format, or too large, or damaged, or gone.
    """
    try:
        content = path.read_bytes()
        _check(content)
        return prepared(content, preprocessing)
    except FileNotFoundError:
        raise UserError(f"{path.name} had to wait for too long and was deleted; give it again") from None
    except UnidentifiedImageError:
        kinds = "JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF"
        raise UserError(f"{path.name} is no image that this page reads; give a file of the kind {kinds}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise UserError(f"{path.name} has more than {limit} megapixels; give a smaller image") from None
    except Exception as error:  # decoders raise many kinds of errors
        raise UserError(
            f"{path.name} can't be read ({in_words(error)}); save it anew, or give another image"
        ) from error


def _check(content: bytes) -> None:
    """Raises Pillow's error or warning for a file of an unknown format, or an image so large that Pillow warns of it.

    Only the head of the file is read.
    """
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.open(io.BytesIO(content), formats=[kind for kind in _FORMATS if kind in Image.OPEN]).close()
