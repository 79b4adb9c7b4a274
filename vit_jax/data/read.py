"""Reads image files as input for a model."""

import contextlib
import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from vit_jax import progress
from vit_jax.data import decode, prefetch
from vit_jax.errors import UserError

_THREADS = 4  # as many as `config.data.threads` has by default
_AT_ONCE = 8  # images that a thread reads before it hands them on


class Read(NamedTuple):
    """An image file: its path, and its pixels as `read_image` returns them, or why it can't be read."""

    path: str
    image: np.ndarray | UserError


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
    paths: Sequence[epath.PathLike], preprocessing: Any, unreadable: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the path and the pixels, as `read_image` returns them, of each file that can be read.

    The others are named on standard error, and their paths are appended to `unreadable`.
    """
    with contextlib.closing(read_ahead(paths, preprocessing, _AT_ONCE)) as batches:
        for path, image in itertools.chain.from_iterable(batches):
            if isinstance(image, UserError):
                unreadable.append(path)
                progress.tell(str(image))
            else:
                yield path, image


def read_ahead(paths: Sequence[epath.PathLike], preprocessing: Any, batch_size: int) -> Generator[list[Read]]:
    """Yields a `Read` for every file, in the order of `paths`, in lists of `batch_size`; the last one may be shorter.

    A `Read` has the path, and either the pixels or the error. Further lists are made in threads meanwhile.
    """

    def make(number: int) -> list[Read]:
        return [_read(path, preprocessing) for path in paths[number * batch_size : (number + 1) * batch_size]]

    pool = prefetch.Pool(make, _THREADS, workers=0)
    try:
        yield from pool.map(range(-(-len(paths) // batch_size)))
    finally:
        pool.close()


def _read(path: epath.PathLike, preprocessing: Any) -> Read:
    try:
        return Read(str(path), read_image(path, preprocessing))
    except UserError as error:
        return Read(str(path), error)


def read_image(path: epath.PathLike, preprocessing: Any) -> np.ndarray:
    """Reads one image file and applies `preprocessing`, the `Preprocessing` of a model.

    Returns:
        uint8 (height, width_px, 3).

    Raises:
        UserError: the file is missing or can't be read as an image.
    """
    try:
        return prepared(epath.Path(path).read_bytes(), preprocessing)
    except FileNotFoundError:
        raise UserError(f"there is no image file {path}; check the name") from None
    except UserError:
        raise
    except Exception as error:  # decoders raise many kinds of errors
        raise UserError(f"{path} can't be read as an image ({type(error).__name__}); mend or remove it") from error


def prepared(content: bytes, preprocessing: Any) -> np.ndarray:
    """Returns the same pixels as `read_image`, from the content of a file. Raises the errors of the decoders."""
    return decode.for_evaluation(
        content,
        preprocessing.size,
        preprocessing.shorter_side,
        interpolation=preprocessing.interpolation,
        antialias=preprocessing.antialias,
        keep_aspect=preprocessing.keep_aspect,
        exif="apply",
    )
