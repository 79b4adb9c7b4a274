"""Describes the contents of a checkpoint, from its headers: `python -m vit_jax.convert --info FILE`."""

import math
from typing import Any

from etils import epath

from vit_jax.checkpoints.formats.base import parameter_shapes
from vit_jax.checkpoints.read import read
from vit_jax.models import flops, summary
from vit_jax.models.build import abstract


def describe(path: epath.PathLike, **keywords: Any) -> str:
    """Returns a table of what a model's file or a run's folder holds, as text.

    The rows are the format, the file's size in bytes, the architecture, the classes, the preprocessing, the number of
    parameters, and the floating-point operations of the forward pass of one image. The architecture is given by its
    published name, if it has one, and the fields that differ from `vit_jax.create` of that name. Weights are not read,
    except if only a run's own checkpoint (`checkpoints/STEP/`) is there.

    Args:
        path: what `vit_jax.load` takes.
        keywords: what the file can't tell, as for `read`.

    Raises:
        UserError: as `read`.
    """
    file = read(path, **keywords)
    count = sum(math.prod(shape) for shape in parameter_shapes(file.architecture).values())
    operations = flops.forward(abstract(file.architecture, file.preprocessing), 1)
    return summary.table(
        [
            ("format", file.format),
            *([] if file.size is None else [("size", f"{file.size:,} bytes")]),
            *summary.rows(file.architecture, file.preprocessing, file.class_names),
            ("parameters", f"{count:,}"),
            ("operations", f"{operations / 1e9:,.4g} GFLOPs an image, 2 a multiply-add"),
        ]
    )
