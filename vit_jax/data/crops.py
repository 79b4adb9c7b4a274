"""How an image becomes uint8 of the model's size, by the name that `Spec.crop` gives.

A new crop is a function here and a line in `CROPS`; for training, also a choice of the key `data.crop` in the schema.
"""

from collections.abc import Callable

import numpy as np

from vit_jax import streams
from vit_jax.data import decode
from vit_jax.data.spec import Spec

# (encoded file or array, spec, position in the data) -> uint8 (height, width_px, 3)
Crop = Callable[[bytes | np.ndarray, Spec, int], np.ndarray]


def _resize(image: bytes | np.ndarray, spec: Spec, position: int) -> np.ndarray:
    return decode.for_evaluation(image, spec.size, interpolation=spec.interpolation, exif=spec.exif)


def _centre(image: bytes | np.ndarray, spec: Spec, position: int) -> np.ndarray:
    return decode.for_evaluation(
        image,
        spec.size,
        shorter_side=spec.shorter_side,
        keep_aspect=spec.keep_aspect,
        interpolation=spec.interpolation,
        exif=spec.exif,
    )


def _inception(image: bytes | np.ndarray, spec: Spec, position: int) -> np.ndarray:
    drawn = streams.generator(spec.seed, "crop", position)
    return decode.random_crop(
        image, spec.size, spec.crop_area_min, drawn, interpolation=spec.interpolation, exif=spec.exif
    )


CROPS: dict[str, Crop] = {"resize": _resize, "centre": _centre, "inception": _inception}
RANDOM = ("inception",)  # crops that depend on the position, so that their results are not kept in memory
