"""What is in a checkpoint, told from its headers: `python -m vit_jax.convert --info FILE`."""

import dataclasses
import math

from etils import epath

from vit_jax.checkpoints.formats.base import parameter_shapes
from vit_jax.checkpoints.read import read
from vit_jax.models import flops, variants
from vit_jax.models.architecture import Preprocessing
from vit_jax.models.build import abstract

# What the name of a variant, the images' size and the number of classes tell, or what does not belong to the weights.
_TOLD = ("image_size", "num_classes", "scan", "remat", "dtype")


def describe(path: epath.PathLike, **keywords: object) -> str:
    """Returns a table of what a file or a run's folder holds; no weights are read, except a run's own checkpoint.

    The lines are the format, the architecture (the published name where one fits, and the fields in which it differs
    from `vit_jax.create` of that name), classes, parameters, operations of an image's forward pass and preprocessing.

    Raises:
        UserError: see `read`.
    """
    file = read(path, **keywords)
    arch, classes = file.architecture, file.class_names
    name = variants.name_of(arch)
    if name:
        usual = dataclasses.asdict(variants.named(name, image_size=arch.image_size))
    else:
        usual = {field.name: field.default for field in dataclasses.fields(arch)}
    differing = {k: v for k, v in dataclasses.asdict(arch).items() if k not in _TOLD and usual[k] != v}
    differing = {k: v for k, v in differing.items() if (k, v) not in (("class_token", True), ("posemb_at", "stem"))}
    model = abstract(arch, file.preprocessing)
    rows = [
        ("format", file.format),
        ("architecture", f"{name or arch.family} at {_size(arch.image_size)} pixels"),
        ("  and", ", ".join(f"{key}={value!r}" for key, value in differing.items())),
        ("classes", _classes(arch.num_classes, classes)),
        ("parameters", f"{sum(math.prod(shape) for shape in parameter_shapes(arch).values()):,}"),
        ("operations", f"{flops.forward(model, 1) / 1e9:,.4g} GFLOPs an image, 2 a multiply-add"),
        ("preprocessing", _preprocessing(file.preprocessing)),
    ]
    return "\n".join(f"{key:<13}  {text}" for key, text in rows if text)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _classes(count: int, names: tuple[str, ...]) -> str:
    if not count:
        return "none: the file has no head"
    first = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"{count:,}" + (f": {first}" if names else ", without names")


def _preprocessing(found: Preprocessing | None) -> str:
    if found is None:
        return "not said; the whole image, bilinear, in [-1, 1] is taken"
    crop = f"shorter side to {found.shorter_side}, then the centre of " if found.shorter_side else "the whole image to "
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (found.mean, found.std))
    return f"{crop}{_size(found.size)}, {found.interpolation}, mean {mean}, deviation {std}"
