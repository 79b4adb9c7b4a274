"""Draws images in a grid, with a title above each."""

import math
import os
import statistics
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from etils import epath
from matplotlib.figure import Figure
from PIL import Image

from vit_jax import figures
from vit_jax.data.choose import listed
from vit_jax.data.decode import to_rgb
from vit_jax.errors import UserError

_MOST = 400  # images in a figure; more would take long and be too small to see
_WIDTH = 10.0  # inches that the rows of a grid fill by default
_PIXELS = 1024  # the longer side of an image to which larger ones are reduced
_SPACE = 0.06  # inches between images
_LINE = 0.16  # inches of a line of a title
_LETTER = 0.065  # inches of a letter of a title, on average


def show(
    images: Any, titles: str | Iterable[Any] | None = None, columns: int | None = None, *, height: float = 1.5
) -> Figure:
    """Draws images in a grid, and returns the figure, which a notebook shows if it is the last value of a cell.

    Args:
        images: one image or several: an array (height, width, channels) or (batch, height, width, channels), a PIL
            image, the path of an image file or of a folder, whose images are all taken, or a list of any of these.
            Integers are pixels from 0 to 255, and floats are pixels from 0 to 1. An array in a list may also be of grey
            values, (height, width). Photographs are turned as their EXIF orientation says.
        titles: what is written above each image; None for nothing.
        columns: the number of images in a row; by default as many as fill about 10 inches.
        height: the height of each image in inches.

    Raises:
        UserError: there are no images or more than 400, one of them can't be shown, or there are more or fewer titles.
    """
    pictures = list(_pictures(images))
    if not pictures:
        raise UserError("show got no images; give at least one")
    if columns is not None and columns < 1:
        raise UserError(f"columns={columns} is no number of images in a row; give 1 or more")
    if not 0 < height < math.inf:
        raise UserError(f"height={height} is no height in inches; give a positive number")
    # A picture that is much wider than the others would make the cells of all of them too wide.
    width = height * min(4.0, max(0.25, statistics.median(p.width / p.height for p in pictures)))
    columns = min(columns or max(1, int(_WIDTH / (width + _SPACE))), len(pictures))
    texts = _texts(titles, len(pictures), max(8, int(width / _LETTER)))
    return _drawn(pictures, texts, columns, width, height)


def _drawn(pictures: list[Image.Image], texts: list[str], columns: int, width: float, height: float) -> Figure:
    above = _LINE * max((text.count("\n") + 1 for text in texts if text), default=0)
    rows = -(-len(pictures) // columns)
    across, down = width + _SPACE, height + above + _SPACE
    with figures.style():
        figure = figures.new(columns * across, rows * down)
        figure.set_layout_engine("none")
        for index, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
            row, column = divmod(index, columns)
            left, bottom = column / columns, 1 - ((row + 1) * down - _SPACE) / (rows * down)
            axes = figure.add_axes((left, bottom, width / across / columns, height / (rows * down)))
            axes.imshow(np.asarray(picture))
            axes.set_axis_off()
            axes.set_title(text, fontsize=8, pad=3)
    return figure


def _texts(titles: str | Iterable[Any] | None, count: int, letters: int) -> list[str]:
    """Returns the title of each image, in lines of at most `letters`."""
    if titles is None:
        return [""] * count
    texts = [titles] if isinstance(titles, str) else [str(title) for title in titles]
    if len(texts) != count:
        raise UserError(f"there are {len(texts)} titles for {count} images; give one for each")
    return ["\n".join(textwrap.fill(line, letters) for line in text.splitlines()) for text in texts]


def _pictures(images: Any) -> Iterator[Image.Image]:
    """Yields the images, in RGB and reduced to what can be seen. Raises UserError if one can't be shown."""
    alone = isinstance(images, str | os.PathLike | Image.Image)
    found: list[Any] = []
    for each in [images] if alone else _separate(images):
        found += listed([os.fspath(each)]) if isinstance(each, str | os.PathLike) else [each]
    if len(found) > _MOST:
        raise UserError(f"{len(found):,} images are too many to show in one figure; give at most {_MOST}")
    for index, each in enumerate(found):
        if isinstance(each, str):
            yield _read(each)
        else:
            yield _reduced(each if isinstance(each, Image.Image) else _pixels(each, index))


def _separate(images: Any) -> Iterable[Any]:
    """Returns the images of an array or of a collection. Raises UserError if the array has no meaning as images."""
    if not hasattr(images, "shape"):
        if not isinstance(images, Iterable):
            raise UserError(f"show can't draw {images!r}; give arrays, PIL images or paths")
        return images
    array = np.asarray(images)
    if array.ndim == 3 and array.shape[-1] in (1, 3, 4):
        array = array[None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3, 4):
        grey = "; of grey images, give a list" if array.ndim in (2, 3) else ""
        raise UserError(
            f"an array of shape {array.shape} is no batch of images; give (batch, height, width, channels){grey}"
        )
    if np.issubdtype(array.dtype, np.floating):
        array = _from_floats(array, "the array")
    return array


def _pixels(image: Any, index: int) -> np.ndarray:
    """Returns an image as uint8 (height, width) or (height, width, channels)."""
    array, which = np.asarray(image), f"image {index}"
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)):
        raise UserError(f"{which} has the shape {array.shape}; give (height, width, 3), or (height, width) of grey")
    if np.issubdtype(array.dtype, np.floating):
        return _from_floats(array, which)
    if not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{which} is of type {array.dtype}; give integers from 0 to 255, or floats from 0 to 1")
    if array.min() < 0 or array.max() > 255:
        raise UserError(
            f"{which} has integers from {array.min()} to {array.max()}, and integers are pixels from 0 to 255; scale "
            "them to that"
        )
    return array.astype(np.uint8)


def _from_floats(array: np.ndarray, which: str) -> np.ndarray:
    """Returns floats from 0 to 1 as pixels. Raises UserError for others, which may be in the range of any model."""
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"{which} has floats from {low:.4g} to {high:.4g}, and floats are shown if they are from 0 to 1; take "
            "images of a model's input back to that by images * std + mean, with those of model.preprocessing"
        )
    return (255 * array.astype(np.float32)).round().astype(np.uint8)


def _read(path: str) -> Image.Image:
    try:
        return _reduced(to_rgb(epath.Path(path).read_bytes(), exif="apply"))
    except Exception as error:  # decoders raise many kinds of errors
        raise UserError(
            f"{path} can't be read as an image ({type(error).__name__}); mend it or leave it out"
        ) from error


def _reduced(image: np.ndarray | Image.Image) -> Image.Image:
    picture = to_rgb(image).copy()
    picture.thumbnail((_PIXELS, _PIXELS))
    return picture
