"""Classify images, and write their features.

    python -m vit_jax.predict --model=/tmp/vit_digits one.png two.jpg
    python -m vit_jax.predict --model=augreg:B/16 --format=jsonl --output=found.jsonl FOLDER 'more/*.jpg'
    find . -name '*.jpg' | python -m vit_jax.predict --model=/tmp/vit_digits --features=features.npz -

Images are named as files; as folders, of which all images are taken, also those in sub-folders; as patterns in quotes,
which stand for what they match; and as - for a list of files from standard input, one a line. The model is a run's
folder, its model.npz, or a checkpoint of any format that vit_jax.convert reads. The images are preprocessed as the
model needs them, and photographs are rotated as their EXIF orientation says.

For each image, in order, this prints the names and probabilities of the --top most probable classes. --format says how:

    text     the path, and below it a line for each class
    jsonl    {"path": …, "classes": [{"name": …, "label": …, "probability": …}, …]}, label being the number of the class
    csv      the columns path, error, and for each rank from 1 on name_1, label_1, probability_1

--output writes this to a file, line by line: a program that is killed leaves whole lines. If an image can't be read,
the others are classified, and the exit code is 1 at the end. The image is named in its place: with text on standard
error, and with jsonl and csv in a line with "error" instead of classes.

--features writes a NumPy file at the end, with the arrays paths, of the images that can be read, and features (images,
features), which is what the model's head sees. With --tokens it also has tokens (images, tokens, width), the tokens
after the last norm. All are kept in memory until then. With --features a model need not be able to classify.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from absl import flags

from vit_jax import command_line, progress
from vit_jax.errors import UserError

if TYPE_CHECKING:
    from vit_jax.predicting import Prediction

_model = command_line.define_model()
_TOP = flags.DEFINE_integer("top", 5, "How many classes to name for each image.", lower_bound=1)
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "jsonl", "csv"], "How to write the predictions.")
_OUTPUT = flags.DEFINE_string("output", None, "Write the predictions to this file instead of printing them.")
_FEATURES = flags.DEFINE_string("features", None, "Write the images' features to this .npz file.")
_TOKENS = flags.DEFINE_bool("tokens", False, "Write their tokens to the file of --features, too.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the files of --output and --features if they are there.")
_BATCH = flags.DEFINE_integer("batch_size", 32, "How many images to compute at once.", lower_bound=1)

_FILE_KEYWORDS = command_line.define_file_keywords()


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    command_line.refuse_config("predict", overrides)
    name = _model()
    if not args:
        raise UserError("which images? name files, folders or patterns after the flags, or - for standard input")
    _check_places()
    paths = _paths(args)
    from vit_jax import checkpoints  # imports JAX, which is slow: after the user's mistakes are found
    from vit_jax.predicting import FORMATS, predict

    # Loading a model with a head of zeros gives a warning, which is hidden because it is an error below.
    logging.getLogger("vit_jax.checkpoints.model_file").setLevel(logging.ERROR)
    model = checkpoints.load(name, **_FILE_KEYWORDS())
    classifies = _classifies(model, name)
    format, count = FORMATS[_FORMAT.value], min(_TOP.value, model.arch.num_classes)
    tells_errors = classifies and format.tells_errors
    unreadable, kept = 0, []
    with contextlib.ExitStack() as closing:
        write = _writer(closing) if classifies else lambda text: None
        step = closing.enter_context(_progress(len(paths), classifies))
        write(format.head(count))
        for found in predict(model, paths, batch_size=_BATCH.value, count=count, tokens=_TOKENS.value):
            write(format.lines(found, count))
            if found.error:
                unreadable += 1
                if not tells_errors:
                    progress.tell(found.error)
            elif _FEATURES.value:
                kept.append(found)
            step(1)
    if kept:
        _write_features(kept)
    if unreadable:
        where = (f"in {_OUTPUT.value}" if _OUTPUT.value else "in the output") if tells_errors else "above"
        without = f", so {_FEATURES.value} is not written" if _FEATURES.value and not kept else ""
        raise UserError(f"{unreadable:,} of {len(paths):,} images can't be read{without}; they are named {where}")


def _check_places() -> None:
    """Raises UserError if a file that is asked for can't be written."""
    from vit_jax.checkpoints import files

    if _TOKENS.value and not _FEATURES.value:
        raise UserError("--tokens needs a file to write them to; add --features=FILE.npz")
    if _FEATURES.value and not _FEATURES.value.endswith(".npz"):
        raise UserError(f"--features={_FEATURES.value} is a NumPy file; give it a name that ends in .npz")
    files.check_places({"--output": _OUTPUT.value, "--features": _FEATURES.value}, _OVERWRITE.value)


def _paths(args: list[str]) -> list[str]:
    """Returns the paths of the images that the arguments name.

    Files from standard input are not looked at, so that one that is missing is reported in its place.
    """
    from vit_jax.data.choose import listed

    paths: list[str] = []
    for arg in args:
        paths += _from_stdin() if arg == "-" else listed(command_line.matches(arg))
    return paths


def _from_stdin() -> list[str]:
    lines = (os.fsdecode(line).rstrip("\r\n") for line in sys.stdin.buffer)
    if not (paths := [line for line in lines if line]):
        raise UserError("standard input names no image; give - a list of files, one a line, once")
    return paths


def _classifies(model: Any, name: str) -> bool:
    """Returns whether the model can classify. Raises UserError if it can't and classes are wanted."""
    from vit_jax.models.class_names import lacking

    if not (lacks := lacking(model)):
        return True
    if _FEATURES.value and not _OUTPUT.value:
        return False
    raise UserError(
        f"{name} has {lacks}, so it can't classify; fine-tune it with --config.init_from first, or ask for "
        "--features=FILE.npz without --output"
    )


def _writer(closing: contextlib.ExitStack) -> Callable[[str], None]:
    """Returns a function that writes lines to the file of --output, or to standard output."""
    from vit_jax.checkpoints import files

    if _OUTPUT.value:
        return closing.enter_context(files.Lines(_OUTPUT.value)).write
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files may hold any bytes

    def write(text: str) -> None:
        if text:
            command_line.say(text.removesuffix("\n"))

    return write


def _progress(total: int, classifies: bool) -> contextlib.AbstractContextManager[Callable[[int], object]]:
    """Returns the progress to show: none if the predictions themselves appear on the terminal."""
    if classifies and not _OUTPUT.value and sys.stdout.isatty():
        return contextlib.nullcontext(lambda images: None)
    return progress.shown("classifying" if classifies else "computing features", total)


def _write_features(found: "list[Prediction]") -> None:
    import numpy as np

    from vit_jax.checkpoints import files

    arrays = {"paths": np.array([each.path for each in found])}
    for name in ("features", "tokens") if _TOKENS.value else ("features",):
        arrays[name] = np.stack([getattr(each, name) for each in found])
    files.write_npz(_FEATURES.value, arrays)


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
