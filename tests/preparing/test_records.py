"""Data sets of TFDS keep all their features, whatever format they were in."""

import io
import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_data_source
from PIL import Image
from tensorflow_datasets.core import file_adapters, registered

from vit_jax import data
from vit_jax.data import decode
from vit_jax.data.spec import Spec
from vit_jax.errors import UserError
from vit_jax.preparing import records
from vit_jax.preparing.reencode import reencoded
from vit_jax.preparing.settings import Encoding

KEEP = {"shorter_side": None}


def toy(data_dir, file_format):
    """Writes the TFDS data set `toy` of 50 training and 20 test images, with labels and file names."""
    with registered.skip_registration():

        class Toy(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.2.0")
            code_path = None

            def _info(self):
                features = {
                    "image": tfds.features.Image(),
                    "label": tfds.features.ClassLabel(names=["a", "b"]),
                    "file_name": tfds.features.Text(),
                }
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    description="Toys.",
                    citation="nobody",
                    metadata=tfds.core.MetadataDict({"kept": 1}),
                )

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples(50), "test": self._generate_examples(20)}

            def _generate_examples(self, count):
                for i in range(count):
                    file = io.BytesIO()
                    pixels = np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), np.uint8)
                    Image.fromarray(pixels).save(file, "PNG")
                    file.seek(0)
                    yield i, {"image": file, "label": i % 2, "file_name": f"{i}.png"}

        Toy.name = "toy"
        Toy(data_dir=data_dir, file_format=file_format).download_and_prepare()


def raw(data_dir, split):
    """Returns the examples of the data set toy, with the bytes of their images."""
    return tfds.data_source("toy", split=split, data_dir=data_dir, decoders={"image": tfds.decode.SkipDecoding()})


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    place = tmp_path_factory.mktemp("toys")
    toy(place, "array_record")
    return place


def test_images_are_replaced_and_all_else_is_kept(toys, prepare, tmp_path):
    done = prepare("toy", toys, shards=3)
    assert (done.examples, done.name) == ({"train": 50, "test": 20}, "toy")
    for split in done.examples:
        before, after = raw(toys, split), raw(tmp_path / "out", split)
        assert len(before) == len(after)
        for old, new in zip(before, after, strict=True):
            assert new == {**old, "image": reencoded(old["image"], Encoding(16, 90))}
    info = tfds.builder_from_directory(done.folder).info
    assert (info.full_name, info.citation, info.metadata["kept"]) == ("toy/1.2.0", "nobody", 1)
    assert info.description.startswith(
        "Toys. Prepared by vit_jax: images re-encoded as JPEG of quality 90 with at most"
    )
    assert info.features["image"].shape == (None, None, 3) and info.features["label"].names == ["a", "b"]
    with data.open(Spec("toy", "test", str(tmp_path / "out"), size=(8, 8))) as dataset:
        assert next(dataset.examples(20))["mask"].sum() == 20


def test_without_a_size_records_are_copied(toys, prepare, tmp_path):
    folder = prepare("toy", toys, splits=("test",), **KEEP).folder
    assert list(raw(tmp_path / "out", "test")) == list(raw(toys, "test"))
    info = tfds.builder_from_directory(folder).info
    assert list(info.splits) == ["test"] and "records unchanged, in the order of the source" in info.description
    assert "quality" not in json.loads((folder / "prepared.json").read_text())["settings"]


def test_under_another_name(toys, prepare, tmp_path):
    prepare("toy", toys, name="small_toy")
    assert len(data.open(Spec("small_toy", "train", str(tmp_path / "out")))) == 50


def test_what_is_refused(toys, prepare):
    with pytest.raises(UserError, match="toy has no split 'val'; it has (test, train|train, test)"):
        prepare("toy", toys, splits=("val",))
    with pytest.raises(UserError, match="toy keeps all its features; --nolabels is for folder and tars"):
        prepare("toy", toys, labelled=False)
    with pytest.raises(UserError, match="config.data.name=digits means something else; add --name"):
        prepare("toy", toys, name="digits")


def test_only_encoded_images_can_be_smaller():
    numbers = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(4, 4, 1), dtype=np.float32)})
    with pytest.raises(UserError, match="images of x can't be made smaller: it has image as Image of .*float32"):
        records._check_image("x", numbers)
    with pytest.raises(UserError, match="it has text, and an encoded image of the name image is needed"):
        records._check_image("x", tfds.features.FeaturesDict({"text": tfds.features.Text()}))


def test_a_damaged_file_ends_with_its_name(toys, prepare, tmp_path):
    shutil.copytree(toys / "toy", tmp_path / "in" / "toy")
    (file,) = (tmp_path / "in" / "toy" / "1.2.0").glob("toy-train*")
    file.write_bytes(file.read_bytes()[:70_000])
    with pytest.raises(UserError, match=r"toy train\[\d+\] can't be read .*; restore the files of .*1.2.0"):
        prepare("toy", tmp_path / "in")


class Sequential:
    """Reads a file of array_record as a format without random access is read: as one of TensorFlow's data sets."""

    def __init__(self, file):
        self.records = list(array_record_data_source.ArrayRecordDataSource([file]))

    def skip(self, count):
        self.records = self.records[count:]
        return self

    def take(self, count):
        self.records = self.records[:count]
        return self

    def as_numpy_iterator(self):
        return iter(self.records)


def test_a_format_without_random_access(toys, prepare, tmp_path, monkeypatch):
    """Shards begin and end within the files that they are made of."""
    prepare("toy", toys, out="in", shards=4, **KEEP)
    info = tmp_path / "in" / "toy" / "1.2.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    for file in info.parent.glob("*array_record*"):
        file.rename(str(file).replace("array_record", "tfrecord"))
    adapter = file_adapters.ADAPTER_FOR_FORMAT[file_adapters.FileFormat.TFRECORD]
    monkeypatch.setattr(adapter, "make_tf_data", Sequential)
    prepare("toy", tmp_path / "in", shards=3, **KEEP)
    for split in ("train", "test"):
        assert list(raw(tmp_path / "out", split)) == list(raw(toys, split))


@pytest.mark.slow
def test_tfrecord_is_converted(prepare, tmp_path, toys):
    """TensorFlow reads the records; what is written are the same bytes."""
    toy(tmp_path / "in", "tfrecord")
    with pytest.raises(UserError, match="--dataset=toy --data_dir=.*/in --out=.*/in/array_record, and set data_dir to"):
        data.open(Spec("toy", "train", str(tmp_path / "in")))
    done = prepare("toy", tmp_path / "in", shards=3, **KEEP)
    for split in done.examples:
        before = tfds.load("toy", split=split, data_dir=tmp_path / "in", decoders={"image": tfds.decode.SkipDecoding()})
        for old, new in zip(before.as_numpy_iterator(), raw(tmp_path / "out", split), strict=True):
            assert old == new
    smaller = prepare("toy", tmp_path / "in", out="smaller", splits=("test",))
    for old, new in zip(raw(tmp_path / "out", "test"), raw(tmp_path / "smaller", "test"), strict=True):
        assert min(decode.to_rgb(new["image"]).size) == 16 < min(decode.to_rgb(old["image"]).size)
    assert smaller.examples == {"test": 20}
