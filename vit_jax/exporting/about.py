"""The JSON beside an exported file, which says what a program must know to use it."""

import dataclasses
from typing import Any

import vit_jax
from vit_jax.exporting.check import Agreement
from vit_jax.exporting.function import DYNAMIC, INPUT, OUTPUTS, Exported
from vit_jax.exporting.place import MADE_BY
from vit_jax.models import summary
from vit_jax.models.architecture import Preprocessing

FORMAT_VERSION = 1


def description(what: Exported, versions: dict[str, object], found: Agreement) -> dict[str, Any]:
    """Returns the description of a file, as a JSON object.

    Args:
        what: what the file computes.
        versions: the format of the file, and the versions of what made it.
        found: how well the file agrees with the model.
    """
    model, batch = what.model, what.batch or DYNAMIC
    return {
        "format_version": FORMAT_VERSION,
        "made_by": MADE_BY,
        "vit_jax": vit_jax.__version__,
        **versions,
        "model": dict(summary.rows(model.arch, model.preprocessing, model.class_names))["architecture"],
        "input": {
            "name": INPUT,
            "dtype": what.dtype.name,
            "shape": [batch, *what.size, 3],
            "axes": ["batch", "height", "width", "red, green, blue"],
            "range": [[0, 255]] * 3 if what.pixels else _range(model.preprocessing),
            "meaning": "pixels, which the file normalises" if what.pixels else "(pixels / 255 - mean) / std",
        },
        "output": {
            "name": what.output,
            "dtype": "float32",
            "shape": [batch, what.outputs],
            "meaning": OUTPUTS[what.output],
        },
        "resize": _resize(model.preprocessing),
        "preprocessing": dataclasses.asdict(model.preprocessing),
        "class_names": list(model.class_names),
        "dtype": model.arch.dtype,
        "agreement": found._asdict(),
    }


def _range(preprocessing: Preprocessing) -> list[list[float]]:
    """Returns the least and the greatest value of each channel of a normalised image."""
    return [[-mean / std, (1 - mean) / std] for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)]


def _resize(preprocessing: Preprocessing) -> str:
    """Returns how a photograph becomes an image of the right size, in words: no exported file does that."""
    height, width_px = preprocessing.size
    how = f"{preprocessing.interpolation} interpolation, {'with' if preprocessing.antialias else 'without'} a filter "
    how += "against aliasing"
    side = preprocessing.shorter_side
    if side is None:
        return f"resize the whole image to {height}x{width_px} (height x width) by {how}"
    box = tuple(round(side * each / min(height, width_px)) for each in (height, width_px))
    if preprocessing.keep_aspect:
        resized = (
            f"resize the image, with its own aspect ratio, until it just covers {box[0]}x{box[1]} (height x width)"
        )
    else:
        resized = f"resize the whole image to {box[0]}x{box[1]} (height x width)"
    return f"{resized} by {how}; then crop its centre of {height}x{width_px}"
