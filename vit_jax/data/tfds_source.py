"""Reads data sets of TensorFlow Datasets that were prepared as array_record, without TensorFlow."""

import difflib
import functools
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from vit_jax.data import catalog, embedded
from vit_jax.errors import UserError

# Names of the feature with the classes, a ClassLabel or a Sequence of them. The first that a data set has is read.
_LABELS = ("label", "labels", "real_label")
_DEFAULT_DIR = "~/tensorflow_datasets"
_BY_HAND = {
    "imagenet2012": "; ImageNet's tar files must be downloaded by hand first, to {dir}/downloads/manual",
    **dict.fromkeys(
        ("imagenet2012_real", "diabetic_retinopathy_detection", "resisc45"),
        "; its images must be downloaded by hand first, to {dir}/downloads/manual",
    ),
}
_IMAGENET21K = (
    "there is no imagenet21k in {dir}, and TFDS has no builder for it; make it of its tars, one for each class, with: "
    "python -m vit_jax.prepare --dataset=tars --data_dir=FOLDER_OF_TARS --name=imagenet21k --out={dir}"
)


class TfdsSource:
    """One base split of a prepared data set. Images are returned as the bytes of their files.

    The data set needs the feature `image` and, for labels, one of `_LABELS` or the feature that they are computed from.
    If the object is pickled, the folder is sent, and the worker process opens it again.
    """

    def __init__(
        self,
        name: str,
        data_dir: str | None,
        split: str,
        *,
        labelled: bool = True,
        label: catalog.Label | None = None,
        factor: int = 1,
    ) -> None:
        """Opens the split.

        Args:
            name: NAME, NAME/CONFIG or NAME:VERSION. The embedded data sets are prepared if they are not yet.
            data_dir: the folder in which TFDS prepares data sets; None for its default.
            split: a base split.
            labelled: whether labels are read.
            label: how labels are computed; None if they are a feature.
            factor: with any but 1, images are decoded and multiplied by it.

        Raises:
            UserError: there is no such data set or split, or it isn't prepared as array_record in `data_dir`.
        """
        self._name, self._split, self._data_dir = name, split, data_dir or _default_dir()
        self._folder = find(name, data_dir)
        builder = _builder(self._folder)
        if split not in builder.info.splits:
            raise UserError(f"{name} has no split {split!r}; it has {', '.join(builder.info.splits)}")
        features = builder.info.features
        if "image" not in features:
            raise UserError(f"the data set {name} has no feature image; it has {', '.join(features)}")
        self.class_names: tuple[str, ...] = ()
        self._computed, self._factor = label, factor
        if labelled and label:
            if label.feature not in features:
                raise UserError(f"the data set {name} has no feature {label.feature}; it has {', '.join(features)}")
            self._label, self.class_names = label.feature, label.names
        elif labelled:
            self._label, of_classes = _label_feature(name, features)
            # A ClassLabel may have a number of classes and no names.
            self.class_names = tuple(of_classes.names or map(str, range(of_classes.num_classes)))
        self._labelled = labelled
        self.identity = f"{self._folder}/{split}"
        self._records  # noqa: B018  (raises here and not in a thread where the format is another)

    @functools.cached_property
    def _records(self) -> Any:
        import tensorflow_datasets as tfds

        builder = _builder(self._folder)
        # Further images, such as masks, are not decoded either.
        encoded = [key for key, kind in builder.info.features.items() if isinstance(kind, tfds.features.Image)]
        decoders = {key: tfds.decode.SkipDecoding() for key in encoded} or None
        method = tfds.decode.DeserializeMethod
        how = method.RAW_BYTES if self._plain else method.DESERIALIZE_AND_DECODE
        try:
            return builder.as_data_source(self._split, decoders=decoders, deserialize_method=how)
        except NotImplementedError as error:
            raise UserError(
                f"{self._name} was prepared in {self._folder} in the format {builder.info.file_format.value}, which "
                f"has no random access; convert it with: {_conversion(self._name, self._data_dir)}, and set data_dir "
                f"to that folder"
            ) from error

    def record(self) -> dict[str, Any]:
        """Returns what tells these examples from others, as JSON values; above all the version of the data set.

        No image is read: the digest is that of the lengths and the size of the split's files. The embedded data sets
        have no digest. They are prepared on each machine, and the bytes of their files depend on the library that
        writes PNG, although the pixels are the same.
        """
        found = record(_builder(self._folder).info, self._split)
        prepared_anew = self._name.partition(":")[0] in embedded.NAMES
        return {**found, "digest": None} if prepared_anew else found

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key not in ("_records", "_parse")}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict:
        image, labels = self._read(index)
        if self._factor != 1:
            image = np.asarray(Image.open(io.BytesIO(image)), np.uint8) * np.uint8(self._factor)
        return {"image": image, "labels": labels}

    def labels(self, index: int) -> tuple[int, ...]:
        return self._read(index)[1]

    def _read(self, index: int) -> tuple[Any, tuple[int, ...]]:
        """Returns the image and the labels of an example."""
        record = self._records[index]
        if self._plain:
            features = self._parse(record).features.feature
            (image,) = features["image"].bytes_list.value
            return image, tuple(features[self._label].int64_list.value) if self._labelled else ()
        if not self._labelled:
            return record["image"], ()
        value = record[self._label]
        labels = (self._computed.of(value),) if self._computed else tuple(np.atleast_1d(value).tolist())
        return record["image"], labels

    @functools.cached_property
    def _plain(self) -> bool:
        """Whether records are parsed here, in a fraction of the time that TFDS takes: files and class numbers."""
        import tensorflow_datasets as tfds

        return self._computed is None and isinstance(_builder(self._folder).info.features["image"], tfds.features.Image)

    @functools.cached_property
    def _parse(self) -> Callable[[bytes], Any]:
        from tensorflow_datasets.proto import tf_example_pb2

        return tf_example_pb2.Example.FromString

    def describe(self, index: int) -> str:
        return f"{self._name} {self._split}[{index}]"


def record(info: Any, split: str) -> dict[str, Any]:
    """Returns what tells the examples of a split from others, as JSON values; `info` is the `DatasetInfo`."""
    found = info.splits[split]
    files = json.dumps([list(found.shard_lengths), int(found.num_bytes)])
    return {
        "dataset": info.full_name,
        "split": split,
        "num_examples": found.num_examples,
        "digest": hashlib.sha256(files.encode()).hexdigest(),
    }


def _label_feature(name: str, features: Any) -> tuple[str, Any]:
    """Returns the name of the feature of the labels, and its ClassLabel. Raises UserError if there is none."""
    for key in _LABELS:
        if key in features:
            of_classes = getattr(features[key], "feature", features[key])  # a Sequence has the feature of its elements
            if hasattr(of_classes, "num_classes"):
                return key, of_classes
    base = name.partition(":")[0]
    tasks = [f"{catalog.vtab.PREFIX}{task}" for task, it in catalog.vtab.TASKS.items() if it.dataset == base]
    raise UserError(
        f"the data set {name} can't be classified: it needs the features image and label (of classes), and has "
        f"{', '.join(features)}" + (f"; its tasks have the names {' and '.join(tasks)}" if tasks else "")
    )


@functools.lru_cache(maxsize=16)
def _builder(folder: str) -> Any:
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(folder)


def find(name: str, data_dir: str | None) -> str:
    """Returns the folder of a prepared data set; arguments are those of `TfdsSource`.

    The embedded data sets are prepared if they are not yet. Raises UserError if there is none.
    """
    folder = _prepared(name, data_dir)
    if folder is None and name in embedded.NAMES:
        embedded.prepare(name, data_dir or _default_dir())
        folder = _prepared(name, data_dir)
    if folder is None:
        raise UserError(_missing(name, data_dir or _default_dir()))
    return folder


def _prepared(name: str, data_dir: str | None) -> str | None:
    from tensorflow_datasets.core import read_only_builder

    try:
        builder = read_only_builder.builder_from_files(name, data_dir=data_dir and epath.Path(data_dir).expanduser())
    except ValueError:  # not found, or no valid name
        return None
    return str(builder.data_path)


def _default_dir() -> str:
    from tensorflow_datasets.core import constants

    return constants.DATA_DIR or _DEFAULT_DIR


def _missing(name: str, data_dir: str) -> str:
    import tensorflow_datasets as tfds

    base = name.partition(":")[0].partition("/")[0]
    if base == "imagenet21k":
        return _IMAGENET21K.format(dir=data_dir)
    known = ["folder", "tars", "synthetic", *catalog.ENTRIES, *tfds.list_builders(with_community_datasets=False)]
    if base not in known:
        near = difflib.get_close_matches(base, known, 3, 0.5)
        return (
            f"there is no data set {name!r}, neither in {data_dir} nor known to TFDS"
            + (f"; near are {', '.join(dict.fromkeys(near))}" if near else "")
            + "; images of your own are read with the name folder"
        )
    return f"the data set {name} isn't prepared in {data_dir}; {_recipe(name, data_dir)}" + _BY_HAND.get(
        base, ""
    ).format(dir=data_dir)


def _recipe(name: str, data_dir: str) -> str:
    return f"prepare it with: tfds build {name} --file_format=array_record --data_dir={data_dir}"


def _conversion(name: str, data_dir: str) -> str:
    return f"python -m vit_jax.prepare --dataset={name} --data_dir={data_dir} --out={data_dir}/array_record"
