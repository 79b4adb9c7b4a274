"""Writes what makes a folder of shards a data set of TFDS: the features, the names of the classes, the splits."""

from collections.abc import Mapping
from typing import Any

import PIL
from etils import epath

import vit_jax
from vit_jax.checkpoints import files
from vit_jax.preparing import checksums
from vit_jax.preparing.example import Origin
from vit_jax.preparing.shard import Made, Shard

FILE = "prepared.json"


def write(
    folder: epath.Path, origin: Origin, info: Any, settings: Mapping[str, Any], made: Mapping[Shard, Made]
) -> dict[str, int]:
    """Writes all files of a data set but its shards, and last the one by which TFDS recognises it.

    Args:
        folder: where the shards are.
        origin: what they were made of.
        info: TFDS's `DatasetInfo` proto of the result, which is completed.
        settings: what is recorded as the settings.
        made: the record of each shard, in order.

    Returns:
        the number of examples of each split.

    Raises:
        OSError: the folder can't be written.
    """
    from tensorflow_datasets.core import dataset_info, file_adapters, splits

    checksums.write(folder, {shard.file: one.sha256 for shard, one in made.items()})
    lengths = {split: [one.examples for shard, one in made.items() if shard.split == split] for split in origin.splits}
    examples = {split: sum(each) for split, each in lengths.items()}
    skipped = [
        {"split": shard.split, "index": index, "example": example, "reason": reason}
        for shard, one in made.items()
        for index, example, reason in one.unreadable
    ]
    report = {
        "settings": settings,
        "examples": examples,
        "skipped": skipped,
        "made_of": origin.folder,
        "versions": {"vit_jax": vit_jax.__version__, "Pillow": PIL.__version__},
    }
    files.write_json(folder / FILE, report)
    for name in origin.beside:
        (epath.Path(origin.folder) / name).copy(folder / name, overwrite=True)
    origin.features().save_config(folder)

    info.description = " ".join(filter(None, [info.description, _sentence(settings, origin, len(skipped))]))
    info.file_format = file_adapters.FileFormat.ARRAY_RECORD.value
    info.ClearField("alternative_file_formats")
    info.ClearField("splits")
    for split, each in lengths.items():
        record_bytes = sum(one.record_bytes for shard, one in made.items() if shard.split == split)
        info.splits.append(splits.SplitInfo(name=split, shard_lengths=each, num_bytes=record_bytes).to_proto())
    dataset_info.write_dataset_info_proto(info, dataset_info_dir=folder)
    return examples


def _sentence(settings: Mapping[str, Any], origin: Origin, skipped: int) -> str:
    """Returns what the description of the result adds to that of the data set that it was made of."""
    changed = f"images re-encoded as JPEG of quality {settings['quality']}" if origin.reencodes else "records unchanged"
    side = settings["shorter_side"]
    smaller = f" with at most {side} pixels on the shorter side" if side else ""
    left_out = f"; {skipped} images that can't be read are left out, and {FILE} names them" if skipped else ""
    return f"Prepared by vit_jax: {changed}{smaller}, in the order of the source{left_out}."
