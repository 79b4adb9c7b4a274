"""Reads image files as input for a model."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from etils import epath

from vit_jax.data import decode
from vit_jax.errors import UserError


def read_images(paths: epath.PathLike | Iterable[epath.PathLike], model: Any) -> np.ndarray:
    """Reads image files and applies the model's own preprocessing; the result is the input of `model(images)`.

    Photographs are turned as their EXIF orientation says. (Training and evaluations ignore the orientation unless
    `config.data.exif` is "apply".)

    Args:
        paths: one file or several, local or `gs://`, in any format that Pillow reads.
        model: a model from `vit_jax.create` or `vit_jax.load`.

    Returns:
        uint8 (batch, height, width_px, 3); for a single path, `batch` is 1.

    Raises:
        UserError: no path is given, or a file is missing or can't be read as an image.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not several:
        raise UserError("read_images got no path; name at least one image file")
    return np.stack([read_image(path, model.preprocessing) for path in several])


def readable(
    paths: Iterable[epath.PathLike], preprocessing: Any, unreadable: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the path and the pixels, as `read_image` returns them, of each file that can be read.

    The others are named on standard error, and their paths are appended to `unreadable`.
    """
    for path in paths:
        try:
            image = read_image(path, preprocessing)
        except UserError as error:
            unreadable.append(str(path))
            print(error, file=sys.stderr, flush=True)
        else:
            yield str(path), image


def read_image(path: epath.PathLike, preprocessing: Any) -> np.ndarray:
    """Reads one image file and applies `preprocessing`, the `Preprocessing` of a model.

    Returns:
        uint8 (height, width_px, 3).

    Raises:
        UserError: the file is missing or can't be read as an image.
    """
    try:
        return decode.for_evaluation(
            epath.Path(path).read_bytes(),
            preprocessing.size,
            preprocessing.shorter_side,
            interpolation=preprocessing.interpolation,
            antialias=preprocessing.antialias,
            keep_aspect=preprocessing.keep_aspect,
            exif="apply",
        )
    except FileNotFoundError:
        raise UserError(f"there is no image file {path}; check the name") from None
    except UserError:
        raise
    except Exception as error:  # decoders raise many kinds of errors
        raise UserError(f"{path} can't be read as an image ({type(error).__name__}); mend or remove it") from error
