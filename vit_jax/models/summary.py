"""Describes a model in a few lines, for `repr(model)` and `python -m vit_jax.convert --info`."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vit_jax.models import variants
from vit_jax.models.architecture import Architecture, Preprocessing

# The line of differing fields omits _TOLD, which other lines show or which do not affect the weights. It also omits the
# fields with the values in _USUAL, which most models have.
_TOLD = ("image_size", "num_classes", "scan", "remat", "dtype")
_USUAL = (("class_token", True), ("posemb_at", "stem"))

Rows = list[tuple[str, str]]


def rows(arch: Architecture, preprocessing: Preprocessing | None, class_names: tuple[str, ...]) -> Rows:
    """Returns the lines of a summary, each as a pair of a label and a text.

    The lines show the architecture, the classes and the preprocessing. An architecture with the sizes of a published
    model is shown by the name of that model and the fields that differ from it. Any other architecture is shown by its
    family and the fields that differ from their defaults.

    Args:
        arch: the architecture.
        preprocessing: the preprocessing; None if a file does not say it.
        class_names: the names of the classes; () if they have none.
    """
    name = variants.name_of(arch)
    if name:
        usual = dataclasses.asdict(variants.named(name, image_size=arch.image_size))
    else:
        usual = {field.name: field.default for field in dataclasses.fields(arch)}
    differing = {k: v for k, v in dataclasses.asdict(arch).items() if k not in _TOLD and usual[k] != v}
    fields = ", ".join(f"{key}={value!r}" for key, value in differing.items() if (key, value) not in _USUAL)
    return [
        ("architecture", f"{name or arch.family} at {_size(arch.image_size)} pixels"),
        *([("  with", fields)] if fields else []),
        ("classes", _classes(arch.num_classes, class_names)),
        ("preprocessing", _preprocessing(preprocessing)),
    ]


def parameters(params: Mapping[str, Any]) -> Rows:
    """Returns two further lines: how many parameters each group has, and where they are.

    Args:
        params: the parameters by path, whose first part is the group; arrays, or shapes alone.
    """
    counts: dict[str, int] = {}
    places: dict[str, int] = {}
    for path, leaf in params.items():
        group, size, place = path.partition("/")[0], math.prod(leaf.shape), _place(leaf)
        counts[group] = counts.get(group, 0) + size
        places[place] = places.get(place, 0) + size
    groups = ", ".join(f"{group} {count:,}" for group, count in counts.items())
    where = next(iter(places)) if len(places) == 1 else "; ".join(f"{n:,} {place}" for place, n in places.items())
    return [("parameters", f"{sum(counts.values()):,}: {groups}"), ("  where", where)]


def table(lines: Rows) -> str:
    """Returns the lines as text, one pair per line, with the texts aligned in a column."""
    width = max(len(word) for word, _ in lines)
    return "\n".join(f"{word:<{width}}  {text}" for word, text in lines)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _classes(count: int, names: tuple[str, ...]) -> str:
    if not count:
        return "none: there is no head"
    first = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"{count:,}" + (f": {first}" if names else ", without names")


def _preprocessing(found: Preprocessing | None) -> str:
    if found is None:
        return "not said; the whole image, bilinear, in [-1, 1] is taken"
    crop = f"shorter side to {found.shorter_side}, then the centre of " if found.shorter_side else "the whole image to "
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (found.mean, found.std))
    return f"{crop}{_size(found.size)}, {found.interpolation}, mean {mean}, deviation {std}"


def _place(leaf: Any) -> str:
    """Returns where a parameter is: on which devices, and how it is split over them."""
    if isinstance(leaf, jax.core.Tracer):
        return "traced by JAX, without values"
    if isinstance(leaf, np.ndarray):
        return "NumPy arrays, in the host's memory"
    if not isinstance(leaf, jax.Array):
        return "shapes alone, without values"
    if leaf.is_deleted():
        return "deleted"
    devices: set[Any] = leaf.sharding.device_set
    device = min(devices, key=lambda device: device.id)
    if len(devices) == 1:
        return f"on device {device.platform}:{device.id} ({device.device_kind})"
    several = f"{len(devices)} {device.platform} devices ({device.device_kind})"
    if leaf.sharding.is_fully_replicated:
        return f"whole on each of {several}"
    axes = sorted({str(axis) for axis in getattr(leaf.sharding, "spec", ()) if axis})
    return f"split over {', '.join(axes)}{' of ' if axes else ''}{several}"
