"""Classify images.

    python -m vit_jax.predict --model=/tmp/vit_digits one.png two.jpg

For each image, this prints the names and probabilities of the most probable classes. The model is a run's folder, its
model.npz, or a checkpoint of any format that vit_jax.convert reads. The images are preprocessed as the model needs
them, and photographs are rotated as their EXIF orientation says. If an image can't be read, its name is printed to
standard error, the others are classified, and the exit code is 1.
"""

import itertools
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
    import jax  # slow to import: after the user's mistakes are found
    import numpy as np

    from vit_jax import checkpoints, data
    from vit_jax.models.class_names import has_classes, top

    # Loading a model with a head of zeros gives a warning, which is hidden because it is an error below.
    logging.getLogger("vit_jax.checkpoints.model_file").setLevel(logging.ERROR)
    model = checkpoints.load(_MODEL.value, **_FILE_KEYWORDS())
    if not model.arch.num_classes:
        raise UserError(f"{_MODEL.value} has no head, so it can't classify; fine-tune it with --config.init_from first")
    if not has_classes(model):
        raise UserError(
            f"{_MODEL.value} has a head of zeros, as the public ImageNet-21k files do, so it can't classify; "
            "fine-tune it with --config.init_from first"
        )
    logits = jax.jit(lambda images: model(images))
    unreadable: list[str] = []
    readable = data.readable(args, model.preprocessing, unreadable)
    while batch := list(itertools.islice(readable, _BATCH)):
        images = np.stack([image for _, image in batch])
        for (path, _), classes in zip(batch, top(model, np.asarray(logits(images)), _TOP.value), strict=True):
            command_line.say(path)
            for name, probability in classes:
                command_line.say(f"  {probability:6.1%}  {name}")
    if unreadable:
        raise UserError(f"{len(unreadable)} of {len(args)} images can't be read; they are named above")


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
