"""From an encoded image to uint8 RGB of the model's size, on the host.

Every kind of image file becomes RGB: grey is repeated, palettes are looked up, CMYK is converted, 16 bits become 8,
and what is transparent shows white, as a page would. Of several frames the first is taken. An orientation noted
in EXIF is ignored unless `exif="apply"`, as it was by the pipelines behind all published numbers.
"""

import io
import math

import numpy as np
from PIL import Image, ImageOps

from vit_jax.errors import UserError

Size = tuple[int, int]  # (height, width) in pixels
Box = tuple[float, float, float, float]  # left, upper, right, lower, as PIL has it

_ASPECT = (3 / 4, 4 / 3)
_TRIES = 10
_WHOLE_PIXELS = 2**25  # that an image is resized to at most, before its centre is cropped


def to_rgb(image: bytes | np.ndarray, exif: str = "ignore") -> Image.Image:
    """Decodes a file's bytes, or takes an array (height, width_px[, 1 to 4 channels]) of uint8 or uint16.

    With `exif="apply"` a photograph is turned as its EXIF orientation says; what has no readable EXIF stays as it is.

    Raises:
        OSError, ValueError and others that PIL raises: it can't be read as an image.
    """
    picture = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else _from_array(image)
    if exif == "apply":
        picture = _turned(picture)
    if picture.mode.startswith("I"):  # 16-bit grey; PIL's own conversion would clip it to 255
        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its grey values take more than 16 bits")
        picture = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("its values are floating-point numbers of unknown range")
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        page = Image.new("RGBA", picture.size, "white")
        page.alpha_composite(picture)
        picture = page
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _turned(picture: Image.Image) -> Image.Image:
    picture.load()  # raises what is wrong with the image itself
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF makes Pillow raise all kinds
        return picture


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3):
        raise ValueError(f"an array of shape {array.shape} and type {array.dtype} is no image; uint8 (h, w, 3) is")
    if array.dtype == np.uint16 and array.ndim == 3:
        array = ((array.astype(np.int64) + 128) // 257).astype(np.uint8)
    return Image.fromarray(array)


def for_evaluation(
    image: bytes | np.ndarray,
    size: Size,
    shorter_side: int | None = None,
    *,
    interpolation: str = "bilinear",
    keep_aspect: bool = True,
    exif: str = "ignore",
) -> np.ndarray:
    """The whole image at `size`; or, with `shorter_side`, resized to cover a larger box, and its centre.

    The box has the aspect ratio of `size` and a shorter side of `shorter_side` pixels. The image keeps its aspect ratio
    and just covers the box, or has its size where `keep_aspect` is false. Sides and centre are rounded as torchvision's
    Resize and CenterCrop and timm's ResizeKeepRatio do.

    Returns:
        uint8 (height, width_px, 3).

    Raises:
        UserError: `shorter_side` is smaller than the centre to crop.
        OSError, ValueError and others that PIL raises: `image` can't be read.
    """
    check_shorter_side(size, shorter_side)
    picture = to_rgb(image, exif)
    if shorter_side is None:
        return _resized(picture, size, interpolation)
    height, width_px = _covering((picture.height, picture.width), size, shorter_side, keep_aspect)
    upper, left = round((height - size[0]) / 2), round((width_px - size[1]) / 2)
    if height * width_px <= _WHOLE_PIXELS:
        resized = _resized(picture, (height, width_px), interpolation)
        return np.ascontiguousarray(resized[upper : upper + size[0], left : left + size[1]])
    # Of a very long image only what is cropped is resized, which equals the above up to Pillow's rounding of the box.
    down, across = picture.height / height, picture.width / width_px
    right, lower = min((left + size[1]) * across, picture.width), min((upper + size[0]) * down, picture.height)
    return _resized(picture, size, interpolation, (left * across, upper * down, right, lower))


def _covering(given: Size, size: Size, shorter_side: int, keep_aspect: bool) -> Size:
    """The (height, width) to which an image of the `given` one is resized before `size` is cropped."""
    box = (size[0] * shorter_side // min(size), size[1] * shorter_side // min(size))
    if not keep_aspect:
        return box
    whole = int if box[0] == box[1] else round
    if given[0] * box[1] <= given[1] * box[0]:  # wider than the box
        return box[0], max(box[1], whole(given[1] * box[0] / given[0]))
    return max(box[0], whole(given[0] * box[1] / given[1])), box[1]


def check_shorter_side(size: Size, shorter_side: int | None) -> None:
    """Raises a UserError where `shorter_side` leaves less than the `size` that is cropped from it."""
    if shorter_side is not None and shorter_side < min(size):
        raise UserError(
            f"shorter_side={shorter_side} is smaller than the model's image of {size[0]}x{size[1]} pixels that is "
            f"cropped from it; set shorter_side to {min(size)} or more, or to 0 to resize the whole image"
        )


def random_crop(
    image: bytes | np.ndarray,
    size: Size,
    area_min: float,
    rng: np.random.Generator,
    *,
    interpolation: str = "bilinear",
    exif: str = "ignore",
) -> np.ndarray:
    """A random box of the image at `size`: its area uniform in [area_min, 1] of the image's, its aspect ratio
    log-uniform in [3/4, 4/3] (Szegedy et al., arXiv:1409.4842, section 6).

    Returns:
        uint8 (height, width_px, 3).

    Raises:
        OSError, ValueError and others that PIL raises: `image` can't be read.
    """
    picture = to_rgb(image, exif)
    return _resized(picture, size, interpolation, _random_box(*picture.size, area_min, rng))


def _random_box(width_px: int, height: int, area_min: float, rng: np.random.Generator) -> Box:
    for _ in range(_TRIES):
        area = rng.uniform(area_min, 1) * width_px * height
        aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width_px and 0 < high <= height:
            left, upper = int(rng.integers(width_px - wide + 1)), int(rng.integers(height - high + 1))
            return left, upper, left + wide, upper + high
    # A very long or tiny image: the largest box in the middle that has an allowed aspect.
    wide = max(1, min(width_px, round(height * _ASPECT[1])))
    high = max(1, min(height, round(width_px / _ASPECT[0])))
    left, upper = (width_px - wide) // 2, (height - high) // 2
    return left, upper, left + wide, upper + high


def _resized(picture: Image.Image, size: Size, interpolation: str, box: Box | None = None) -> np.ndarray:
    """Antialiased, all filters but the nearest pixel's."""
    if box is not None or picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling[interpolation.upper()], box=box)
    return np.array(picture, dtype=np.uint8)
