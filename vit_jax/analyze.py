"""Draw what a model has learned: the figures of "An Image is Worth 16x16 Words" (2010.11929), for any model.

    python -m vit_jax.analyze --model=/tmp/vit_digits --images=FOLDER --out=/tmp/inside
    python -m vit_jax.analyze --model=augreg:B/16 --out=/tmp/inside --attention=11 --attention=0.3 one.jpg two.jpg

--model is a run's folder or a checkpoint of any format. --images is a folder, of which all images are taken, also those
in sub-folders; or an image file; or several of these with commas between them. It may be given several times, and files
may also be named after the flags. If there are more than --count images, that many are drawn at random. Images are
prepared as the model needs them.

--out receives report.html, the figures as PNG and PDF, and the numbers in analysis.npz: filters, similarity of
position embeddings, attention distance and entropy, norms of tokens, similarity of layers, and attention rollout.
--attention=LAYER.HEAD also draws the attention weights of a head, and --attention=LAYER the mean of all heads of a
layer. If there are more than 256 images, the first 256 are drawn. What a model does not have, such as the attention of
a ResNet, is named in the report and left out.

If an image can't be read, its name is printed to standard error, the others are analysed, and the exit code is 1.
"""

import re
import sys

from absl import flags

from vit_jax import __version__, command_line, progress
from vit_jax.errors import UserError

_model = command_line.define_model()
_IMAGES = flags.DEFINE_multi_string(
    "images", [], "A folder with images or an image file, or several with commas between them."
)
_OUT = flags.DEFINE_string("out", None, "The folder to write to; it is made if it is missing.")
_COUNT = flags.DEFINE_integer("count", 128, "The largest number of images.", lower_bound=1)
_ATTENTION = flags.DEFINE_multi_string(
    "attention", [], "LAYER.HEAD or LAYER, counted from 0: weights to draw; may be given several times."
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an earlier analysis in the folder of --out.")
_FILE_KEYWORDS = command_line.define_file_keywords()


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    command_line.refuse_config("analyze", overrides)
    name = _model()
    if not (places := [*_IMAGES.value, *args]):
        raise UserError("which images? add --images=FOLDER, or name files after the flags")
    if _OUT.value is None:
        raise UserError("where to write? add --out=FOLDER")
    chosen_maps = [_layer_and_head(text) for text in _ATTENTION.value]
    from etils import epath

    from vit_jax.data.choose import choose

    chosen = choose(places, _COUNT.value)
    from vit_jax import checkpoints, data  # imports JAX, which is slow: after the user's mistakes are found
    from vit_jax.analysis import Map, measure, write
    from vit_jax.analysis.measuring import RANDOM, check_maps
    from vit_jax.analysis.writing import check_folder
    from vit_jax.models.summary import rows

    check_folder(epath.Path(_OUT.value), _OVERWRITE.value)
    model = checkpoints.load(name, **_FILE_KEYWORDS())
    maps = tuple(dict.fromkeys(Map(*each) for each in chosen_maps))
    check_maps(model.arch, maps)
    unreadable: list[str] = []
    images = data.readable(chosen.paths, model.preprocessing, unreadable)
    count = len(chosen.paths)
    with progress.shown("computing", count + (min(count, RANDOM) if model.arch.family == "vit" else 0)) as step:
        found = measure(model, images, count, maps=maps, progress=step)
    with progress.shown("drawing", unit="figures") as step:
        about = {
            "model": name,
            **{key.strip(): text for key, text in rows(model.arch, model.preprocessing, model.class_names)},
            "images": _of_images(found.images, chosen.found, len(unreadable)),
            "made by": f"vit_jax {__version__}",
        }
        write(found, _OUT.value, about, overwrite=_OVERWRITE.value, progress=lambda _: step(1))
    for name, reason in found.missing.items():
        command_line.say(f"not drawn: {name}. {reason}")
    command_line.say(f"wrote {epath.Path(_OUT.value) / 'report.html'}")
    if unreadable:
        raise UserError(f"{len(unreadable)} of {count} images can't be read; they are named above")


def _layer_and_head(text: str) -> tuple[int, int | None]:
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?", text)
    if not match:
        raise UserError(f"--attention={text} is not LAYER.HEAD or LAYER; write --attention=11.3, say")
    return int(match[1]), None if match[2] is None else int(match[2])


def _of_images(measured: int, found: int, unreadable: int) -> str:
    text = f"{measured:,}" if measured + unreadable == found else f"{measured:,}, drawn at random from {found:,}"
    return f"{text}; {unreadable:,} more can't be read" if unreadable else text


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
