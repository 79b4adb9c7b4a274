"""Resizes pixels on the host, with or without a filter against aliasing.

There are two ways to make an image smaller. With `antialias` the filter grows with the scale, as in Pillow, torchvision
and `tf.image.resize(antialias=True)`, so that every pixel counts. Without it, each pixel of the result is interpolated
between its nearest neighbours only, as in `tf.image.resize` by default. The published results of the paper were made
without it, and it takes a fraction of the time. Enlarged images are the same both ways, up to rounding.
"""

import functools
from typing import Any

import numpy as np
from PIL import Image

Size = tuple[int, int]  # (height, width) in pixels
Box = tuple[float, float, float, float]  # (left, upper, right, lower) in pixels, as in PIL


def resized(
    image: Image.Image | np.ndarray,
    size: Size,
    interpolation: str,
    antialias: bool,
    box: Box | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Returns an image, or the part of it in `box`, at another size.

    Args:
        image: a picture in RGB, or uint8 (height, width_px, 3).
        size: (height, width) of the result, in pixels.
        interpolation: the name of a PIL resampling filter.
        antialias: whether making the image smaller reduces aliasing. Only "bilinear" can do without, and "nearest"
            never does.
        box: the part to resize; by default all of the image.
        out: receives the result, if it is given.

    Returns:
        uint8 (height, width_px, 3).
    """
    if interpolation == "bilinear" and not antialias:
        return _between_neighbours(image, size, box, out)
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    if box is not None or picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling[interpolation.upper()], box=box)
    return _filled(out, picture)


def _filled(out: np.ndarray | None, pixels: Image.Image | np.ndarray) -> np.ndarray:
    if out is None:
        return np.array(pixels, dtype=np.uint8)
    out[...] = np.asarray(pixels)
    return out


def _between_neighbours(
    image: Image.Image | np.ndarray, size: Size, box: Box | None, out: np.ndarray | None
) -> np.ndarray:
    if box is not None:  # of parts of pixels, which OpenCV does not have
        picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        part = picture.transform(size[::-1], Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
        return _filled(out, part)
    pixels = np.asarray(image)
    if pixels.shape[:2] == size:
        return _filled(out, pixels)
    cv2 = _opencv()
    return cv2.resize(pixels, size[::-1], dst=out, interpolation=cv2.INTER_LINEAR)


@functools.cache
def _opencv() -> Any:
    import cv2

    cv2.setNumThreads(1)  # the pipeline has threads and processes of its own
    return cv2
