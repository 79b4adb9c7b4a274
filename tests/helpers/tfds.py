"""Writes small data sets of TensorFlow Datasets."""

import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered


def write(data_dir: Any, name: str, features: Mapping[str, Any], splits: Mapping[str, Iterable[dict]]) -> None:
    """Prepares the data set `name`, or NAME/CONFIG, in `data_dir` as array_record.

    Args:
        data_dir: the folder.
        name: of the data set.
        features: features of TFDS by name.
        splits: the examples of each split. Arrays that are given for an Image are encoded as PNG. The order that TFDS
            gives the examples is its own.
    """
    name, _, config = name.partition("/")

    with registered.skip_registration(), tempfile.TemporaryDirectory() as images:

        class Written(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []
            code_path = None

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(dict(features)))

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(split) for split in splits}

            def _generate_examples(self, split):
                for number, example in enumerate(splits[split]):
                    yield number, {key: _file(value, features[key], images) for key, value in example.items()}

        Written.name = name
        Written(data_dir=data_dir, file_format="array_record", config=config or None).download_and_prepare()


def _file(value: Any, feature: Any, folder: str) -> Any:
    """Returns a value of an example as TFDS takes it; TFDS would need TensorFlow to encode an array as an image."""
    if not isinstance(feature, tfds.features.Image):
        return value
    place = pathlib.Path(tempfile.mkstemp(".png", dir=folder)[1])
    Image.fromarray(np.squeeze(value, -1) if value.shape[-1] == 1 else value).save(place)
    return str(place)
