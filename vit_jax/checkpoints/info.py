"""What is in a checkpoint, told from its headers: `python -m vit_jax.convert --info FILE`."""

import math
from typing import Any

from etils import epath

from vit_jax.checkpoints.formats.base import parameter_shapes
from vit_jax.checkpoints.read import read
from vit_jax.models import flops, summary
from vit_jax.models.build import abstract


def describe(path: epath.PathLike, **keywords: Any) -> str:
    """Returns a table of what a file or a run's folder holds; no weights are read, except a run's own checkpoint.

    The lines are the format, the file's size, the architecture (the published name where one fits, and the fields in
    which it differs from `vit_jax.create` of that name), classes, preprocessing, parameters and operations of an
    image's forward pass.

    Raises:
        UserError: see `read`.
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
