"""Decodes images and resizes or crops them to the size of the model's input, as uint8 RGB, on the host.

Every kind of image is converted to RGB: grey values are repeated, palettes are looked up, CMYK is converted, 16 bits
are reduced to 8, and transparent parts are drawn on white. Only the first frame of an animation is used. The EXIF
orientation is ignored by default, because the pipelines that produced the published results ignored it.
"""

import io
import math

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from vit_jax.data import jpeg_tiles, resize
from vit_jax.data.jpeg_tiles import Whole
from vit_jax.data.resize import Size
from vit_jax.errors import UserError

_ASPECT = (3 / 4, 4 / 3)  # the range of width / height of a random crop
_TRIES = 10
_JPEG, _EXIF = b"\xff\xd8", b"Exif\0\0"  # how a JPEG, and its EXIF, begins
_SCREEN_COLOURS = ("Gray", "YCbCr", "RGB")  # not CMYK and YCCK
_WHOLE_PIXELS = 2**25  # the largest image, in pixels, that is resized as a whole before its centre is cropped


def to_rgb(image: bytes | np.ndarray | Image.Image, exif: str = "ignore") -> Image.Image:
    """Returns an image as a PIL image in RGB.

    Args:
        image: the bytes of an image file, or an array (height, width_px) or (height, width_px, channels) of uint8 or
            uint16 with 1 to 4 channels; or a PIL image.
        exif: "apply" turns a photograph as its EXIF orientation says, if the file has readable EXIF; "ignore" does not.

    Raises:
        OSError, ValueError or another error of PIL: `image` can't be read as an image.
    """
    picture = image if isinstance(image, Image.Image) else _opened(image)
    if exif == "apply":
        picture = _turned(picture)
    if picture.mode.startswith("I"):  # 16-bit grey, which PIL's own conversion would clip at 255
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


def _plain_jpeg(image: bytes | np.ndarray, exif: str) -> Size | None:
    """Returns the size of a JPEG that libjpeg-turbo alone can decode as `to_rgb` would; None for all else."""
    if not isinstance(image, bytes) or not image.startswith(_JPEG) or (exif == "apply" and _EXIF in image):
        return None
    try:
        height, width_px, colours, _ = simplejpeg.decode_jpeg_header(image)
    except ValueError:
        return None
    # Pillow converts the colours of printers, and refuses images that are too large.
    plain = colours in _SCREEN_COLOURS and height * width_px <= (Image.MAX_IMAGE_PIXELS or math.inf)
    return (height, width_px) if plain else None


def _turned(picture: Image.Image) -> Image.Image:
    picture.load()  # errors in the image itself must be raised here, outside of the `try`
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # Pillow raises many kinds of errors for damaged EXIF
        return picture


def _opened(image: bytes | np.ndarray) -> Image.Image:
    return Image.open(io.BytesIO(image)) if isinstance(image, bytes) else _from_array(image)


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
    antialias: bool = True,
    keep_aspect: bool = True,
    exif: str = "ignore",
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Returns an image as an evaluation sees it: resized to `size`, or resized to be larger and cropped at the centre.

    Args:
        image: as in `to_rgb`.
        size: (height, width) of the result, in pixels.
        shorter_side: None resizes the whole image to `size` and does not crop. Otherwise the image is resized to cover
            a box with the aspect ratio of `size` and a shorter side of this many pixels, and then cropped to `size`.
        interpolation: the name of a PIL resampling filter.
        antialias: as in `resize.resized`.
        keep_aspect: whether the resized image keeps its aspect ratio; if false, it is stretched to exactly that box.
        exif: as in `to_rgb`.
        rng: if it is given, it draws the position of the crop, uniformly.

    Returns:
        uint8 (height, width_px, 3). Sides and centre are rounded as by torchvision's Resize and CenterCrop and timm's
        ResizeKeepRatio.

    Raises:
        UserError: `shorter_side` is smaller than the shorter side of `size`.
        OSError, ValueError or another error of PIL: `image` can't be read as an image.
    """
    check_shorter_side(size, shorter_side)
    picture = to_rgb(image, exif)
    if shorter_side is None:
        return resize.resized(picture, size, interpolation, antialias)
    height, width_px = _covering((picture.height, picture.width), size, shorter_side, keep_aspect)
    if rng is None:
        upper, left = round((height - size[0]) / 2), round((width_px - size[1]) / 2)
    else:
        upper, left = int(rng.integers(height - size[0] + 1)), int(rng.integers(width_px - size[1] + 1))
    if height * width_px <= _WHOLE_PIXELS:
        whole = resize.resized(picture, (height, width_px), interpolation, antialias)
        return np.ascontiguousarray(whole[upper : upper + size[0], left : left + size[1]])
    # A very long image would need much memory when resized as a whole. Resizing only the part that is cropped gives the
    # same result, up to Pillow's rounding of the box.
    down, across = picture.height / height, picture.width / width_px
    right, lower = min((left + size[1]) * across, picture.width), min((upper + size[0]) * down, picture.height)
    return resize.resized(picture, size, interpolation, antialias, (left * across, upper * down, right, lower))


def _covering(given: Size, size: Size, shorter_side: int, keep_aspect: bool) -> Size:
    """Returns the (height, width) to which an image is resized before the crop. `given` is its own (height, width)."""
    box = (size[0] * shorter_side // min(size), size[1] * shorter_side // min(size))
    if not keep_aspect:
        return box
    whole = int if box[0] == box[1] else round
    if given[0] * box[1] <= given[1] * box[0]:  # wider than the box
        return box[0], max(box[1], whole(given[1] * box[0] / given[0]))
    return max(box[0], whole(given[0] * box[1] / given[1])), box[1]


def check_shorter_side(size: Size, shorter_side: int | None, instead: str = "to 0 to resize the whole image") -> None:
    """Raises UserError if `shorter_side` is smaller than the shorter side of `size`, which is cropped from it.

    `instead` is what the user may set otherwise.
    """
    if shorter_side is not None and shorter_side < min(size):
        raise UserError(
            f"shorter_side={shorter_side} is smaller than the model's image of {size[0]}x{size[1]} pixels that is "
            f"cropped from it; set shorter_side to {min(size)} or more, or {instead}"
        )


def random_crop(
    image: bytes | np.ndarray,
    size: Size,
    area_min: float,
    rng: np.random.Generator,
    *,
    interpolation: str = "bilinear",
    antialias: bool = True,
    exif: str = "ignore",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Returns a random box of an image, resized to `size` (Szegedy et al., arXiv:1409.4842, section 6).

    The area of the box, as a share of the image, is drawn uniformly from [area_min, 1], and its aspect ratio
    log-uniformly from [3/4, 4/3]. JPEGs with a box of twice the size or more are reduced while they are decoded.

    Args:
        image: as in `to_rgb`.
        size: (height, width) of the result, in pixels.
        area_min: the smallest share.
        rng: the generator of the random numbers.
        interpolation: the name of a PIL resampling filter.
        antialias: as in `resize.resized`.
        exif: as in `to_rgb`.
        out: receives the result, if it is given.

    Returns:
        uint8 (height, width_px, 3).

    Raises:
        OSError, ValueError or another error of PIL: `image` can't be read as an image.
    """
    given = _plain_jpeg(image, exif)
    picture = None if given else to_rgb(image, exif)
    box = _random_box(given or picture.size[::-1], area_min, rng)  # type: ignore[union-attr]
    pixels = _fast_part(image, given, box, size) if given else None  # type: ignore[arg-type]
    if pixels is None:
        left, upper, right, lower = box
        pixels = np.asarray(picture or to_rgb(image, exif))[upper:lower, left:right]
    return resize.resized(pixels, size, interpolation, antialias, out=out)


def _fast_part(file: bytes, given: Size, box: Whole, size: Size) -> np.ndarray | None:
    """Returns the pixels of a JPEG of size `given` in a box, reduced as far as `size` allows.

    It decodes with the fast inverse DCT and without smoothing of the colours between the blocks. As Pillow,
    libjpeg-turbo reads over damage that does not cut the file off. Returns None for other damage, which may be so
    little that Pillow reads it.
    """
    scale = _reduction((box[3] - box[1], box[2] - box[0]), size)
    if frame := jpeg_tiles.frame(file):
        file, box, given = jpeg_tiles.cut(file, frame, box)
    left, upper, right, lower = box
    least = {"min_height": given[0] // scale, "min_width": given[1] // scale, "min_factor": scale} if scale > 1 else {}
    try:
        pixels = simplejpeg.decode_jpeg(file, "RGB", fastdct=True, fastupsample=True, strict=frame is None, **least)
    except ValueError:
        return None
    return pixels[upper // scale : lower // scale, left // scale : right // scale]


def _reduction(box: Size, size: Size) -> int:
    """Returns by how much a JPEG is reduced when it is decoded: 1, 2, 4 or 8, such that `box` stays above `size`."""
    return max(scale for scale in (1, 2, 4, 8) if scale == 1 or min(box[0] / size[0], box[1] / size[1]) >= scale)


def _random_box(given: Size, area_min: float, rng: np.random.Generator) -> Whole:
    """Returns the box of `random_crop` in an image of size `given`."""
    height, width_px = given
    for share, form, across, down in rng.random((_TRIES, 4)).tolist():
        area = (area_min + (1 - area_min) * share) * width_px * height
        aspect = _ASPECT[0] * (_ASPECT[1] / _ASPECT[0]) ** form
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width_px and 0 < high <= height:
            left, upper = int(across * (width_px - wide + 1)), int(down * (height - high + 1))
            return left, upper, left + wide, upper + high
    # No box fits into a very long or tiny image. It gets the largest box with an allowed aspect ratio, in its centre.
    wide = max(1, min(width_px, round(height * _ASPECT[1])))
    high = max(1, min(height, round(width_px / _ASPECT[0])))
    left, upper = (width_px - wide) // 2, (height - high) // 2
    return left, upper, left + wide, upper + high
