"""Writes one shard: some consecutive examples of a split, as a file in array_record format."""

import dataclasses
import os
from collections.abc import Callable, Iterator

from etils import epath

from vit_jax.checkpoints import files
from vit_jax.data import messages
from vit_jax.preparing import checksums
from vit_jax.preparing.example import Origin
from vit_jax.preparing.reencode import reencoded
from vit_jax.preparing.settings import Encoding
from vit_jax.preparing.writing import writing

_OF_ARRAY_RECORD = (RuntimeError, ValueError)  # what it raises on a full disk, beside OSError
_LIKE_TFDS = "group_size:1"  # records are compressed one by one, so that each can be read without others


@dataclasses.dataclass(frozen=True)
class Shard:
    """Which examples a shard is made of, and the name of its file."""

    split: str
    start: int
    stop: int
    file: str


@dataclasses.dataclass(frozen=True)
class Made:
    """What is recorded of a shard that is written.

    Attributes:
        examples: their number, without those that can't be read.
        record_bytes: the size of the serialized examples.
        file_bytes: the size of the file.
        sha256: of the file.
        unreadable: (number in the split, name, reason) of each example whose image can't be read.
    """

    examples: int
    record_bytes: int
    file_bytes: int
    sha256: str
    unreadable: tuple[tuple[int, str, str], ...]


def make(origin: Origin, encoding: Encoding, shard: Shard, folder: epath.Path, count: Callable[[int], object]) -> Made:
    """Writes a shard to `folder` and returns what is recorded of it; calls `count(1)` after each example.

    The file has its name only once it is whole and on the disk.

    Raises:
        UserError: it can't be written, or the data set can't be read.
    """
    from array_record.python import array_record_module

    path = folder / shard.file
    unreadable: list[tuple[int, str, str]] = []
    examples = record_bytes = 0
    with files.replacing(path) as temporary:
        with writing(path, *_OF_ARRAY_RECORD):
            writer = array_record_module.ArrayRecordWriter(str(temporary), _LIKE_TFDS)
        for index, record in records(origin, encoding, shard.split, shard.start, shard.stop):
            if isinstance(record, Exception):
                name = origin.describe(shard.split, index)
                unreadable.append((index, name, messages.in_words(record)))
            else:
                with writing(path, *_OF_ARRAY_RECORD):
                    writer.write(record)
                examples += 1
                record_bytes += len(record)
            count(1)
        with writing(path, *_OF_ARRAY_RECORD):
            writer.close()  # what the disk refuses while it writes is raised here
            _check(str(temporary), examples)
            sha256 = checksums.sha256(temporary)
            _to_disk(str(temporary))
            file_bytes = temporary.stat().length
    return Made(examples, record_bytes, file_bytes, sha256, tuple(unreadable))


def records(
    origin: Origin, encoding: Encoding, split: str, start: int, stop: int
) -> Iterator[tuple[int, bytes | Exception]]:
    """Yields the number of each example of a range, and its serialized form or why its image can't be read.

    Raises:
        UserError: the data set can't be read.
    """
    for index, example in zip(range(start, stop), origin.examples(split, start, stop), strict=True):
        if isinstance(example.image, Exception):
            yield index, example.image
            continue
        try:
            image = reencoded(example.image, encoding) if origin.reencodes else example.image
        except Exception as error:  # decoders raise all kinds
            yield index, error
        else:
            yield index, example.record(image)


def _check(path: str, examples: int) -> None:
    from array_record.python import array_record_module

    reader = array_record_module.ArrayRecordReader(path)
    found = reader.num_records()
    reader.close()
    if found != examples:
        raise OSError(f"{found} of {examples} records arrived")


def _to_disk(path: str) -> None:
    """Waits until the disk has the content of a file, so that it is whole even after the power fails."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
