"""The recorded identity of a training set, and the differences between two of them."""

import json
import shutil

import pytest
from etils import epath

from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.data import tfds_source


def described(config):
    """Returns the identity of the config's training set, after writing it to JSON and reading it again."""
    found = json.loads(json.dumps(data.describe(config)))
    assert found == data.describe(config)
    assert data.is_identity(found)
    return found


def test_a_folder(folder, tmp_path):
    found = described(folder)
    assert (found["num_examples"], found["class_names"]) == (9, ["cat", "dog", "eel"])
    assert [part["num_examples"] for part in found["parts"]] == [9]
    assert str(tmp_path) not in json.dumps(found)
    moved = tmp_path / "elsewhere"
    for split in ("train", "test"):
        shutil.copytree(tmp_path / split, moved / split)
    folder.data.data_dir = str(moved)
    assert described(folder) == found
    folder.data.split = "train[:50%]"
    assert described(folder)["num_examples"] == 4
    folder.data.split, folder.data.labels_per_class = "train", 2
    assert described(folder)["num_examples"] == 6


def rename(root, old, new):
    (root / "train" / old).rename(root / "train" / new)


def remove(root):
    (root / "train" / "cat" / "0.png").unlink()


def swap(root):
    for old, new in (("cat", "aside"), ("dog", "cat"), ("aside", "dog")):
        rename(root, old, new)
    rename(root, "cat/0.png", "cat/other.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: rename(root, "cat", "zebra"), ["the classes cat are gone", "the classes zebra are new"]),
        (remove, ["9 training images before, 8 now"]),
        (lambda root: rename(root, "cat/0.png", "dog/3.png"), ["as many images of the same classes, but other files"]),
        (swap, ["as many images of the same classes, but other files"]),
        (lambda root: None, []),
    ],
)
def test_differences(folder, tmp_path, change, said):
    before = described(folder)
    change(tmp_path)
    found = data.differences(before, data.describe(folder))
    assert len(found) == len(said)
    assert all(sentence.startswith(words) for sentence, words in zip(found, said, strict=True))


def test_classes_in_another_order(digits):
    digits.data.classes = (3, 5, 7)
    before = described(digits)
    digits.data.classes = (3, 7, 5)
    (said,) = data.differences(before, data.describe(digits))
    assert said == "the classes are in another order, the first at 1: 5 and now 7"


def test_what_is_held_out(folder, tmp_path):
    before = described(folder)
    shutil.rmtree(tmp_path / "test")
    assert data.differences(before, data.describe(folder)) == [
        "9 training images before, 8 now", "0 images held out for testing before, 1 now"
    ]  # fmt: skip


def test_versions_of_tfds(digits, tmp_path):
    before = described(digits)
    assert before["parts"] == [{"dataset": "digits/1.0.0", "split": "train", "num_examples": 1500, "digest": None}]
    place = tmp_path / "digits" / "1.1.0"
    shutil.copytree(epath.Path(digits.data.data_dir) / "digits" / "1.0.0", place)
    info = place / "dataset_info.json"
    info.write_text(info.read_text().replace("1.0.0", "1.1.0"))
    digits.data.data_dir = str(tmp_path)
    assert data.differences(before, described(digits)) == ["the data set was digits/1.0.0 and is digits/1.1.0"]


def test_tfds_prepared_in_another_way(digits, tmp_path, monkeypatch):
    """The sizes of the files do not count for the embedded data sets, since each version of a PNG library differs."""
    shutil.copytree(epath.Path(digits.data.data_dir) / "digits", tmp_path / "digits")
    info = tmp_path / "digits" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"numBytes": "', '"numBytes": "1'))
    other = config_lib.default()
    other.data.data_dir = str(tmp_path)
    assert described(digits) == described(other)
    monkeypatch.setattr(tfds_source.embedded, "NAMES", ())
    (said,) = data.differences(described(digits), described(other))
    assert said == "as many images of the same classes, but other files or labels"


def test_synthetic_images(synthetic):
    before = described(synthetic)
    synthetic.data.num_examples, synthetic.data.num_classes = 24, 4
    assert data.differences(before, described(synthetic)) == [
        "the classes 3 are new", "21 training images before, 24 now"
    ]  # fmt: skip


def test_the_number_of_examples_is_believed(folder, tmp_path):
    recorded = described(folder)
    folder.data.data_dir = str(tmp_path / "gone")
    assert data.info(folder, recorded) == data.Info(9, 3, ("cat", "dog", "eel"))


@pytest.mark.parametrize("key", ["num_examples", "class_names", "parts"])
@pytest.mark.parametrize("value", [None, "a", [None], {}])
def test_what_is_no_record(key, value):
    whole = {"num_examples": 3, "class_names": ["a"], "parts": [{}]}
    assert data.is_identity(whole)
    assert not data.is_identity({**whole, key: value})
    assert not data.is_identity(value)
    assert not data.is_identity(config_lib.default().to_dict())
