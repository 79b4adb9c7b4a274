"""The records of a data set of TFDS, in any of its formats, as a data set to prepare.

Only the image in a record is replaced, and only if images are re-encoded; all other features are kept byte for byte.
"""

import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from etils import epath

from vit_jax.checkpoints import files
from vit_jax.data import tfds_source
from vit_jax.errors import UserError
from vit_jax.preparing.example import Example

_IMAGE = "image"
_BESIDE = ("metadata.json", "LICENSE")  # what TFDS writes beside features and splits


class Records:
    """The serialized examples of a prepared data set, in the order in which its files have them."""

    def __init__(self, name: str, data_dir: str | None, splits: tuple[str, ...], reencodes: bool) -> None:
        """Opens the splits.

        Args:
            name: NAME, NAME/CONFIG or NAME:VERSION.
            data_dir: the folder in which TFDS prepares data sets; None for its default.
            splits: names of splits; () for all.
            reencodes: whether images are re-encoded.

        Raises:
            UserError: there is no such data set or split, or its images can't be re-encoded.
        """
        self.reencodes = reencodes
        self.folder = tfds_source.find(name, data_dir)
        self.beside = tuple(name for name in _BESIDE if (epath.Path(self.folder) / name).exists())
        info = self._info()
        if missing := [split for split in splits if split not in info.splits]:
            raise UserError(f"{name} has no split {missing[0]!r}; it has {', '.join(info.splits)}")
        self.splits = {split: info.splits[split].num_examples for split in splits or info.splits}
        self._name = info.name
        if reencodes:
            _check_image(name, info.features)

    def _info(self) -> Any:
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(self.folder).info

    def record(self, split: str) -> dict[str, Any]:
        return tfds_source.record(self._info(), split)

    def info(self, name: str | None) -> Any:
        proto = self._info().as_proto
        copy = type(proto).FromString(proto.SerializeToString())
        copy.name = name or proto.name
        return copy

    def features(self) -> Any:
        import tensorflow_datasets as tfds

        features = self._info().features
        if not self.reencodes:
            return features
        jpeg = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
        return tfds.features.FeaturesDict({**features, _IMAGE: jpeg})

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        from tensorflow_datasets.proto import tf_example_pb2

        for record in self._records(split, start, stop):
            if not self.reencodes:
                yield Example(b"", functools.partial(_unchanged, record))
                continue
            example = tf_example_pb2.Example.FromString(record)
            images = example.features.feature[_IMAGE].bytes_list.value

            def with_image(image: bytes, example: Any = example, images: Any = images) -> bytes:
                images[0] = image
                return example.SerializeToString(deterministic=True)

            yield Example(images[0], with_image)

    def _records(self, split: str, start: int, stop: int) -> Iterator[bytes]:
        info, found = self._info(), start
        try:
            for part in info.splits[f"{split}[{start}:{stop}]"].file_instructions:
                for record in _read(info.file_format, part):
                    yield record
                    found += 1
        except Exception as error:  # the readers of the formats raise all kinds
            raise UserError(
                f"{self.describe(split, found)} can't be read ({files.line(error)}); restore the files of {self.folder}"
            ) from error
        if found < stop:
            raise UserError(
                f"{self.folder} lacks records of {split} that its dataset_info.json counts; prepare it anew"
            )

    def describe(self, split: str, index: int) -> str:
        return f"{self._name} {split}[{index}]"


def _unchanged(record: bytes, _: bytes) -> bytes:
    return record


def _check_image(name: str, features: Any) -> None:
    import tensorflow_datasets as tfds

    image = dict(features).get(_IMAGE)
    if not isinstance(image, tfds.features.Image) or image.np_dtype not in (np.uint8, np.uint16):
        holds = ", ".join(features) if image is None else f"{_IMAGE} as {type(image).__name__} of {image.np_dtype}"
        raise UserError(
            f"the images of {name} can't be made smaller: it has {holds}, and an encoded image of the name {_IMAGE} is "
            "needed; leave out --shorter_side to convert the records as they are"
        )


def _read(file_format: Any, part: Any) -> Iterator[bytes]:
    """Yields the records of a part of a file, which is TFDS's `FileInstruction`."""
    from tensorflow_datasets.core import file_adapters

    if file_format is file_adapters.FileFormat.ARRAY_RECORD:
        from array_record.python import array_record_data_source

        records = array_record_data_source.ArrayRecordDataSource([part])
        yield from (records[index] for index in range(len(records)))
        return
    # Otherwise TensorFlow, which reads the other formats, prints messages to stderr.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    adapter = file_adapters.ADAPTER_FOR_FORMAT[file_format]
    yield from adapter.make_tf_data(part.filename).skip(part.skip).take(part.take).as_numpy_iterator()
