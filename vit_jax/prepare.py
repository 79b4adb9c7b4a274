"""Prepare a data set: make its images smaller, once, and write them so that training reads them fast.

    python -m vit_jax.prepare --dataset=imagenet2012 --shorter_side=292 --out=DIR
    python -m vit_jax.prepare --dataset=folder --data_dir=IMAGES --shorter_side=292 --name=flowers --out=DIR
    python -m vit_jax.prepare --dataset=tars --data_dir=winter21 --shorter_side=292 --name=imagenet21k --out=DIR
    python -m vit_jax.prepare --dataset=cifar10 --data_dir=OLD_DIR --out=DIR
    python -m vit_jax.prepare --verify=DIR
    python -m vit_jax.prepare --preview=FILE.png --config=configs/imagenet.py --config.augmentation.flip

--dataset is a data set that TensorFlow Datasets (TFDS) has prepared, in any of its formats; folder, a folder of images
as config.data.data_dir takes it; or tars, a folder with a tar of images for each class. The result is a data set of
TFDS in the format array_record, DIR/NAME/VERSION, which is read with config.data.name=NAME and config.data.data_dir=DIR
and by other programs with tfds.data_source or tfds.builder_from_directory. It keeps the names of the classes, several
labels an image (a labels.csv) and all other features, and has the examples in the order of the source, so that a split
such as train[:10%] has the same images as before.

Images become JPEG files whose shorter side has at most --shorter_side pixels. None is enlarged, and a JPEG of RGB that
is small enough and not progressive is copied byte for byte. The EXIF orientation stays a tag. Without --shorter_side,
the records of TFDS are copied unchanged, which converts TFRecord, and images of folder and tars keep their size.

A preparation that was killed goes on if it is started again with the same flags; shards that are finished are kept. An
image that can't be read is named and, at the end, the data set refused; with --corrupt=skip it is left out, and
prepared.json beside the shards names it. SHA256SUMS has the checksum of each shard, which --verify checks.

--preview draws a grid of the training images of a config, as the model sees them.
"""

import os
import sys

from absl import flags

from vit_jax import command_line
from vit_jax.errors import UserError

_DATASET = flags.DEFINE_string("dataset", None, "folder, tars, or a data set of TFDS: NAME, NAME/CONFIG, NAME:VERSION.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The folder of the images, or the one in which TFDS keeps data sets.")
_OUT = flags.DEFINE_string("out", None, "The folder for prepared data sets, which this one is added to.")
_NAME = flags.DEFINE_string("name", None, "The name of the result; by default that of the data set or of its folder.")
_SPLITS = flags.DEFINE_list("splits", [], "The splits to prepare, with commas between them; by default all.")
_SIDE = flags.DEFINE_integer("shorter_side", None, "The most pixels of an image's shorter side.", lower_bound=1)
_QUALITY = flags.DEFINE_integer("quality", 90, "The quality of the JPEG files.", lower_bound=1, upper_bound=100)
_LABELS = flags.DEFINE_bool("labels", True, "Keep labels; without, images lie anywhere below their split's folder.")
_CORRUPT = flags.DEFINE_enum("corrupt", "fail", ["fail", "skip"], "What to do if images can't be read.")
_SHARDS = flags.DEFINE_integer(
    "shards", None, "The number of files of each split; by default so many that they have about 192 MB.", lower_bound=1
)
_WORKERS = flags.DEFINE_integer("workers", None, "Processes; at most, and by default, one a core.", lower_bound=1)
_VERIFY = flags.DEFINE_string("verify", None, "Check the files of the prepared data sets in this folder and below.")
_PREVIEW = flags.DEFINE_string("preview", None, "Draw augmented training images of --config to this file.")
_CONFIG = flags.DEFINE_string("config", None, "The config file of --preview, FILE.py or FILE.py:ARGUMENTS.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the file of --preview if it is there.")
_MODES = ("dataset", "verify", "preview")
_ONLY_TO_PREPARE = (
    "data_dir", "out", "name", "splits", "shorter_side", "quality", "labels", "corrupt", "shards", "workers",
)  # fmt: skip
_ONLY_TO_PREVIEW = ("config", "overwrite")


def main(args: list[str], overrides: list[command_line.Override]) -> None:
    if args:
        raise UserError(f"what is {args[0]!r}? the data set is named by --dataset=NAME")
    modes = [name for name in _MODES if flags.FLAGS[name].value]
    if len(modes) != 1:
        given = " and ".join(f"--{name}" for name in modes)
        what = f"{given} are several commands; give one" if modes else "which data set? add --dataset=NAME"
        raise UserError(f"{what} (--help says more)")
    given_flags = [f"--{name}" for name in (*_ONLY_TO_PREPARE, *_ONLY_TO_PREVIEW) if flags.FLAGS[name].present]
    given_flags += [f"--config.{key}" for key, _ in overrides]
    read = {"dataset": _ONLY_TO_PREPARE, "verify": (), "preview": _ONLY_TO_PREVIEW}[modes[0]]
    if unread := [name for name in given_flags if name[2:].partition(".")[0] not in read]:
        raise UserError(f"nothing reads {unread[0]} with --{modes[0]}; leave it out")
    {"dataset": _prepare, "verify": _verify, "preview": lambda: _preview(overrides)}[modes[0]]()


def _prepare() -> None:
    assert _DATASET.value
    if not _OUT.value:
        raise UserError("where to? add --out=DIR")
    if "://" in _OUT.value:
        raise UserError(f"--out={_OUT.value} is no local folder; prepare to one, and copy the result")
    from etils import epath

    from vit_jax import preparing
    from vit_jax.preparing.images import KINDS
    from vit_jax.preparing.settings import Encoding

    if _DATASET.value == "synthetic":
        raise UserError("synthetic images are made while they are read; there is nothing to prepare")
    if _SIDE.value is None and flags.FLAGS["quality"].present and _DATASET.value not in KINDS:
        raise UserError("nothing reads --quality without --shorter_side, because the images stay as they are; add it")
    if wrong := [split for split in _SPLITS.value if "[" in split or "+" in split]:
        raise UserError(f"--splits has {wrong[0]!r}; it takes names of whole splits, such as train,test")
    settings = preparing.Settings(
        dataset=_DATASET.value,
        data_dir=_DATA_DIR.value,
        out=epath.Path(_OUT.value).expanduser(),
        name=_NAME.value,
        splits=tuple(dict.fromkeys(_SPLITS.value)),
        encoding=Encoding(_SIDE.value, _QUALITY.value),
        labelled=_LABELS.value,
        shards=_SHARDS.value,
        corrupt=_CORRUPT.value,
        workers=min(_WORKERS.value or _cores(), _cores()),
    )
    done = preparing.prepare(settings)
    holds = ", ".join(f"{split} {count:,}" for split, count in done.examples.items())
    skipped = f", {done.skipped:,} left out that can't be read" if done.skipped else ""
    command_line.say(
        f"{'wrote' if done.is_new else 'there already is'} {done.folder}: images: {holds}{skipped}; read it with "
        f"--config.data.name={done.name} --config.data.data_dir={settings.out}"
    )


def _verify() -> None:
    from etils import epath

    from vit_jax import preparing

    for folder, count in preparing.verify(epath.Path(_VERIFY.value).expanduser()).items():
        command_line.say(f"{folder}: {count} files are as they were written")


def _preview(overrides: list[command_line.Override]) -> None:
    config = command_line.load_config(_CONFIG.value, overrides)
    from vit_jax.preparing import preview

    preview.write(config, _PREVIEW.value, overwrite=_OVERWRITE.value)
    command_line.say(f"wrote {_PREVIEW.value}")


def _cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    command_line.run(main, sys.modules[__name__].__doc__ or "")
