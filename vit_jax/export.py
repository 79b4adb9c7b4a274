"""Write a model as a file that runs without this package: ONNX or StableHLO.

    python -m vit_jax.export --model=/tmp/vit_digits model.onnx
    python -m vit_jax.export --model=augreg:B/16 --uint8 --output=probabilities model.onnx
    python -m vit_jax.export --model=ViT-B_16.npz --batch=8 --image_size=384 --dtype=bfloat16 model.stablehlo

The model is a run's folder, its model.npz, or a checkpoint of any format that vit_jax.convert reads. The file takes one
array of images, (batch, height, width, 3), and resizes nothing. --batch is the number of images, and any number by
default. --image_size is the size of the images, a number or HEIGHTxWIDTH, and that of the model's preprocessing by
default; position embeddings are resampled for it now.

Images are float32 in the model's range, (pixels / 255 - mean) / std. With --uint8 they are pixels from 0 to 255, and
the file normalises them. --output is what the file computes, float32 (batch, …):

    logits           of the classes
    probabilities    the softmax of the logits
    features         what the model's head reads

Beside the file, FILE.json describes it: the images it takes and how to make them from a photograph, what it computes,
and the names of the classes.

.onnx         for onnxruntime and others; needs pip install 'vit_jax[export]'. With --dtype=bfloat16 the weights take
              half the space, and the file computes in float32 with them.
.stablehlo    the bytes that jax.export.deserialize reads, for CPU, CUDA and TPU at once. JAX runs them if its release
              is up to six months newer than the one here, or up to three weeks older. They have no derivative.

Before the file gets its name, it is run on random images, and compared with the model. In float32, a difference above
1e-4, or above 1e-4 of the largest output if that is above 1, is an error, and nothing is left behind. In bfloat16, the
difference may be twice as large as what bfloat16 changes in the model's own outputs.
"""

import logging
import sys

from absl import flags

from vit_jax import command_line
from vit_jax.errors import UserError

_model = command_line.define_model()
_BATCH = flags.DEFINE_string("batch", "dynamic", "The number of images in a batch, or dynamic for any number.")
_OUTPUT = flags.DEFINE_enum("output", "logits", ["logits", "probabilities", "features"], "What the file computes.")
_UINT8 = flags.DEFINE_bool("uint8", False, "Take pixels from 0 to 255 as uint8, and normalise them in the file.")
_DTYPE = flags.DEFINE_enum("dtype", None, ["float32", "bfloat16"], "The type to compute in; the model's by default.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the file and its description if they are there.")
_FILE_KEYWORDS = command_line.define_file_keywords()


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    command_line.refuse_config("export", overrides)
    name = _model()
    if len(args) != 1:
        raise UserError("export takes one file to write, such as model.onnx or model.stablehlo, after the flags")
    batch, keywords = _batch(_BATCH.value), _FILE_KEYWORDS()
    from etils import epath

    from vit_jax.exporting import place

    place.check(epath.Path(args[0]), _OVERWRITE.value)
    from vit_jax import checkpoints  # imports JAX, which is slow: after the user's mistakes are found
    from vit_jax.exporting import export

    # Loading a model with a head of zeros gives a warning, which is hidden because it is an error if the head is used.
    logging.getLogger("vit_jax.checkpoints.model_file").setLevel(logging.ERROR)
    model = checkpoints.load(name, dtype=_DTYPE.value, **keywords)
    options = {"output": _OUTPUT.value, "uint8": _UINT8.value, "overwrite": _OVERWRITE.value}
    found = export(model, args[0], batch=batch, **options)
    command_line.say(f"wrote {args[0]} and {args[0]}.json; it differs from the model by {found}")


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--batch={text} is no number of images; give one, from 1 on, or dynamic for any number")
    return int(text)


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
