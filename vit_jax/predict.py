"""Classify images.

    python -m vit_jax.predict --model=/tmp/vit_digits one.png two.jpg

prints for each image the most probable classes by name, with their probabilities. The model is a run's folder, its
model.npz, or a checkpoint of any format that vit_jax.convert reads; its own preprocessing is applied to the images.
"""

import logging
import pathlib
import sys

from absl import flags

from vit_jax import command_line
from vit_jax.errors import UserError

_MODEL = flags.DEFINE_string("model", None, "A run's folder or a checkpoint file.")
_TOP = flags.DEFINE_integer("top", 5, "How many classes to print for each image.", lower_bound=1)

_FILE_KEYWORDS = command_line.define_file_keywords()

_BATCH = 32


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    if overrides:
        raise UserError(f"predict takes no config; leave out --config.{overrides[0][0]}")
    if _MODEL.value is None:
        raise UserError("which model? add --model=FOLDER_OR_FILE")
    if not args:
        raise UserError("which images? name their files after the flags")
    missing = [path for path in args if not pathlib.Path(path).is_file()]
    if missing:
        raise UserError(f"there is no image file {missing[0]}")
    import jax  # after what can go wrong without it
    import numpy as np

    from vit_jax import checkpoints
    from vit_jax.data import decode
    from vit_jax.models.functional import split

    logging.getLogger("vit_jax.checkpoints").setLevel(logging.ERROR)  # of a head of zeros an error follows here
    model = checkpoints.load(_MODEL.value, **_FILE_KEYWORDS())
    if not model.arch.num_classes:
        raise UserError(f"{_MODEL.value} has no head, so it can't classify; fine-tune it with --config.init_from first")
    if not any(np.any(part) for part in jax.tree.leaves(split(model.head)[1])):
        raise UserError(
            f"{_MODEL.value} has a head of zeros, as the public ImageNet-21k files do, so it can't classify; "
            "fine-tune it with --config.init_from first"
        )
    settings = model.preprocessing
    predict = jax.jit(lambda images: jax.nn.softmax(model(images)))
    for start in range(0, len(args), _BATCH):
        paths = args[start : start + _BATCH]
        images = []
        for path in paths:
            try:
                images.append(
                    decode.for_evaluation(pathlib.Path(path).read_bytes(), settings.size, settings.shorter_side)
                )
            except UserError:
                raise
            except Exception as error:  # decoders raise all kinds
                raise UserError(f"{path} can't be read as an image ({type(error).__name__})") from error
        for path, probabilities in zip(paths, np.asarray(predict(np.stack(images))), strict=True):
            command_line.say(path)
            for index in np.argsort(-probabilities)[: _TOP.value]:
                name = model.class_names[index] if model.class_names else f"class {index}"
                command_line.say(f"  {probabilities[index]:6.1%}  {name}")


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
