"""Writes an exported file and its description, once the file has computed what the model computes."""

import json
import math
from typing import Any

import jax
from etils import epath

from vit_jax.checkpoints import files
from vit_jax.errors import UserError
from vit_jax.exporting import about, check, onnx_file, place, stablehlo_file
from vit_jax.exporting.function import Exported, for_cpus
from vit_jax.models.functional import split
from vit_jax.models.model import Model

_FORMATS: dict[str, Any] = {".onnx": onnx_file, ".stablehlo": stablehlo_file}
_MOST = 2**31 - 2**24  # bytes of weights: both formats hold at most 2 GiB


def export(
    model: Model,
    path: epath.PathLike,
    *,
    batch: int | None = None,
    output: str = "logits",
    uint8: bool = False,
    overwrite: bool = False,
) -> check.Agreement:
    """Writes a file that computes a model without this package, and `PATH.json`, which describes the file.

    The file takes one array (batch, height, width, 3), whose size is `model.preprocessing.size`, and resizes nothing.
    Before it gets its name, it is run on random images and compared with the model (see `check.agreement`).

    Args:
        model: the model; its dtype is that of the file (see `onnx_file` about bfloat16).
        path: a file that ends in `.onnx` or `.stablehlo`.
        batch: the number of images in a batch; None for any number.
        output: `logits`, `probabilities` (the softmax of the logits) or `features` (what the head reads), float32.
        uint8: whether the images are pixels of uint8, and the file normalises them. Otherwise they are float32,
            normalised as `model.preprocessing.normalize` does.
        overwrite: whether an existing file, and the JSON that describes it, are replaced.

    Returns:
        How well the file agrees with the model.

    Raises:
        UserError: an argument is wrong, a package is missing, a part of the model can't be converted, the file can't be
            written, or it does not agree with the model. Nothing is left behind then.
    """
    path = epath.Path(path)
    place.check(path, overwrite)
    what, format = Exported(model, output, uint8, batch), _FORMATS[path.suffix]
    _check_bytes(what, format, path)
    try:
        with for_cpus(), files.replacing_all([place.description_of(path), path]) as (beside, file):
            format.write(what, file)
            found = check.agreement(what, format.opened(file))
            check.check(found, path)
            description = about.description(what, format.versions(), found)
            beside.write_text(json.dumps(description, indent=2) + "\n")
    except OSError as error:
        reason = error.strerror or files.line(error)
        raise UserError(f"{path} can't be written ({reason}); mend that or name another place") from error
    return found


def _check_bytes(what: Exported, format: Any, path: epath.Path) -> None:
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(split(what.model)[1]))
    if (size := count * format.bytes_of_weight(what)) > _MOST:
        smaller = "add --dtype=bfloat16" if format.bytes_of_weight(what) == 4 and path.suffix == ".onnx" else ""
        raise UserError(
            f"the model's weights take {size / 2**30:.1f} GiB, and {path.suffix} files hold at most 2; "
            f"{smaller or 'export a smaller model'}"
        )
