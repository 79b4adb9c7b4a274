"""How an image becomes uint8 of the model's size, by the name that `Spec.crop` gives.

A new crop is a function here and a line in `CROPS`; for training, also a choice of the key `data.crop` in the schema.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from vit_jax import streams
from vit_jax.data import decode
from vit_jax.data.resize import Size
from vit_jax.data.spec import Spec


class Crop(NamedTuple):
    """One kind of crop.

    Attributes:
        apply: returns uint8 (height, width_px, 3) from an encoded file or an array, the spec, the position in the data,
            and an array that may receive the result.
        random: whether the result depends on the position, so that it is never kept in memory.
    """

    apply: Callable[[bytes | np.ndarray, Spec, int, np.ndarray], np.ndarray]
    random: bool


def _resize(image: bytes | np.ndarray, spec: Spec, position: int, out: np.ndarray) -> np.ndarray:
    return decode.for_evaluation(image, spec.size, **_options(spec))


def _centre(image: bytes | np.ndarray, spec: Spec, position: int, out: np.ndarray) -> np.ndarray:
    return decode.for_evaluation(
        image,
        spec.size,
        shorter_side=spec.shorter_side,
        keep_aspect=spec.keep_aspect,
        **_options(spec),
    )


def _inception(image: bytes | np.ndarray, spec: Spec, position: int, out: np.ndarray) -> np.ndarray:
    drawn = streams.counted(spec.seed, "crop", position)
    return decode.random_crop(image, spec.size, spec.crop_area_min, drawn, **_options(spec), out=out)


def _random(image: bytes | np.ndarray, spec: Spec, position: int, out: np.ndarray) -> np.ndarray:
    drawn, shorter_side = streams.counted(spec.seed, "crop", position), spec.shorter_side or default_side(spec.size)
    return decode.for_evaluation(image, spec.size, shorter_side, **_options(spec), rng=drawn)


def default_side(size: Size) -> int:
    """Returns the default of `shorter_side` for the crop `random`, in pixels: 8/7 of the crop's shorter side.

    For crops of 224 pixels it is 256, as is common.
    """
    return round(min(size) * 8 / 7)


def _options(spec: Spec) -> dict[str, Any]:
    return {"interpolation": spec.interpolation, "antialias": spec.antialias, "exif": spec.exif}


CROPS: dict[str, Crop] = {
    "resize": Crop(_resize, random=False),
    "centre": Crop(_centre, random=False),
    "inception": Crop(_inception, random=True),
    "random": Crop(_random, random=True),
}
