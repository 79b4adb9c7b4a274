"""The layouts of folders with a user's images, and which images are held out of training."""

import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.errors import UserError


@pytest.fixture
def own(tmp_path):
    """Returns a function that makes images in the given folders, such as "train/cat", and returns a config.

    The config trains on these images and has an evaluation on the split `test`.
    """

    def make(*folders, count=20):
        for folder in folders:
            (tmp_path / folder).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (2, 2)).save(tmp_path / folder / f"{i}.png")
        config = config_lib.default()
        config.data.name, config.data.data_dir = "folder", str(tmp_path)
        config.model.image_size, config.global_batch_size = 8, 4
        config.evaluations.test = config_lib.evaluation()
        return config

    return make


def trained(config):
    source = data.open_training(config)._source
    return [source.describe(i) for i in range(len(source))]


def evaluated(config):
    source = data.open_evaluation(config, "test")._source
    return [source.describe(i) for i in range(len(source))]


@pytest.mark.parametrize("asked", ["test", "val", "valid", "validation"])
@pytest.mark.parametrize("there", ["test", "val", "valid", "validation"])
def test_one_name_of_a_test_split_stands_for_another(own, caplog, there, asked):
    config = own("train/cat", "train/dog", f"{there}/cat", f"{there}/dog", count=2)
    config.evaluations.test.split = f"{asked}[:3]"
    with caplog.at_level(logging.INFO, "vit_jax"):
        assert len(trained(config)) == 4
        assert len(evaluated(config)) == 3
    assert all(f"/{there}/" in path for path in evaluated(config))
    assert ("serves as the split" in caplog.text) == (asked != there)


def test_of_several_the_named_one_is_taken(own, tmp_path):
    config = own("train/cat", "val/cat", "validation/cat", "test/cat", count=1)
    for split in ("test", "val", "validation"):
        config.evaluations.test.split = split
        assert evaluated(config) == [str(tmp_path / split / "cat" / "0.png")]
    config.evaluations.test.split = "valid"
    assert "/test/" in evaluated(config)[0]


@pytest.mark.parametrize("prefix", ["train/", ""])
def test_a_tenth_is_held_out(own, tmp_path, caplog, prefix):
    config = own(f"{prefix}cat", f"{prefix}dog")
    with caplog.at_level(logging.INFO, "vit_jax"):
        kept, held_out = trained(config), evaluated(config)
    assert "the last 4 of the 40 images of" in caplog.text and "(10%)" in caplog.text
    assert (len(kept), len(held_out)) == (36, 4)
    config.evaluations.test.data_dir = f"{tmp_path}/"
    assert evaluated(config) == held_out
    assert len(set(kept) | set(held_out)) == 40
    assert data.info(config).num_examples == 36
    config.evaluations.test.exclude_train = True
    assert (trained(config), evaluated(config)) == (kept, held_out)
    config.data.split = "train[:50%]"
    assert trained(config) == kept[:18]
    config.evaluations.test.split = "train+val"
    assert sorted(evaluated(config)) == sorted(set(kept[18:]) | set(held_out))
    # No evaluation uses a test split, so all the images are trained on, in the usual shuffled order.
    config.data.split, config.evaluations = "train", {}
    assert trained(config) == kept + held_out
    names = sorted(str(path) for path in tmp_path.rglob("*.png"))
    assert trained(config) == [names[i] for i in np.random.default_rng(0).permutation(40)]


def test_slices_of_train_hold_nothing_out(own):
    config = own("train/cat")
    config.data.split, config.evaluations.test.split = "train[:75%]", "train[75%:]"
    assert (len(trained(config)), len(evaluated(config))) == (15, 5)


def test_what_is_trained_on_is_no_test_split(own):
    config = own("train/cat", "val/cat")
    config.data.split = "train+val"
    assert not set(trained(config)) & set(evaluated(config))
    assert (len(trained(config)), len(evaluated(config))) == (38, 2)
    config.data.split = "val"
    with pytest.raises(UserError, match="no folder .*/test for the split 'test' of config.evaluations.test.split"):
        evaluated(config)


def test_training_takes_no_split_of_another_name(own):
    config = own("train/cat", "test/cat")
    for split in ("val", "train+validation"):
        config.data.split = split
        with pytest.raises(UserError, match="no folder .*val.* of config.data.split; .* holds test, train"):
            trained(config)


def test_another_folder_has_its_own_splits(own, tmp_path):
    config = own("a/train/cat", "b/cat")
    config.data.data_dir, config.evaluations.test.data_dir = str(tmp_path / "a"), str(tmp_path / "b")
    assert len(trained(config)) == 20
    with pytest.raises(UserError, match="to test on all of its images, set config.evaluations.test.split to train"):
        evaluated(config)
    config.evaluations.test.split = "train"
    assert len(evaluated(config)) == 20


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["train/cat", "cat", "dog"], r"both folders of splits \(train\) and folders with images .*\(cat, dog\)"),
        (["cat", "val/cat"], r"both folders of splits \(val\) and folders with images beside them \(cat\)"),
        (["Train/cat", "Test/cat"], r"no folder .*/train .*folders of .* \(Test, Train\); if these are splits, rename"),
        (["val/cat"], "no folder .*/train for the split 'train' of config.data.split; .* holds val"),
        ([], "no folder .*/train .* holds nothing"),
    ],
)
def test_what_is_not_clear_is_refused(own, folders, said):
    with pytest.raises(UserError, match=said) as error:
        trained(own(*folders, count=1))
    assert "\n" not in str(error.value)


def test_one_image_is_too_few(own):
    with pytest.raises(UserError, match="1 images, too few to hold some out"):
        trained(own("cat", count=1))


def test_a_class_of_which_all_is_held_out(own, tmp_path):
    config = own("cat", count=3)
    shutil.copytree(tmp_path / "cat", tmp_path / "dog")
    for name in ("1.png", "2.png"):
        (tmp_path / "dog" / name).unlink()
    assert evaluated(config) == [str(tmp_path / "dog" / "0.png")]
    with pytest.raises(UserError, match="no images of the classes dog of .* are left to train on"):
        trained(config)
