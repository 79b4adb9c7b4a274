"""The recipes of transfer and of evaluation have the published settings and take images of one's own."""

import pytest

import vit_jax
from helpers.recipes import load
from vit_jax import config as config_lib
from vit_jax.data.catalog import vtab


@pytest.mark.parametrize(
    ("dataset", "steps", "warmup_steps", "learning_rate", "evaluated"),
    [
        ("imagenet2012", 20_000, 500, 0.03, "validation"),
        ("cifar10", 10_000, 500, 0.01, "test"),
        ("cifar100", 10_000, 500, 0.01, "test"),
        ("oxford_iiit_pet", 500, 100, 0.01, "test"),
        ("oxford_flowers102", 500, 100, 0.01, "test"),
        ("folder:/photos", 500, 100, 0.01, "test"),
    ],
)
def test_transfer_is_table_4(dataset, steps, warmup_steps, learning_rate, evaluated):
    config = load(f"transfer.py:B/16,{dataset}")
    assert (config.total_steps, config.schedule.warmup_steps) == (steps, warmup_steps)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (learning_rate, 0.0)
    assert (config.optimizer.name, config.optimizer.momentum) == ("sgd", 0.9)
    assert (config.optimizer.moment_dtype, config.optimizer.grad_clip_norm) == ("bfloat16", 1.0)
    assert (config.global_batch_size, config.model.image_size, config.model.dropout) == (512, 384, None)
    assert (config.data.crop, config.data.crop_area_min, config.augmentation.flip) == ("inception", 0.05, True)
    assert config.evaluations[evaluated].split == evaluated
    assert config.init_from is None
    name, _, folder = dataset.partition(":")
    assert (config.data.name, config.data.data_dir) == (name, folder or None)


@pytest.mark.parametrize(
    ("dataset", "train", "held_out"),
    [
        ("imagenet2012", "train[:99%]", "train[99%:]"),
        ("cifar10", "train[:98%]", "train[98%:]"),
        ("cifar100", "train[:98%]", "train[98%:]"),
        ("oxford_iiit_pet", "train[:90%]", "train[90%:]"),
        ("oxford_flowers102", "train[:90%]", "train[90%:]"),
        ("vtab/svhn", "train800", "val200"),
        ("folder:/own, images", "train[:90%]", "train[90%:]"),
    ],
)
def test_transfer_holds_out_what_table_4_says(dataset, train, held_out):
    words = f"held_out,{dataset}" if dataset.startswith("folder") else f"{dataset},held_out"
    config = vit_jax.load_config(f"configs/transfer.py:B/16,{words}")
    assert config.data.split == train
    tested = {"test": "test"} if dataset.startswith("folder") else {}
    splits = {name: section.split for name, section in config.evaluations.items()}
    assert splits == {"held_out": held_out, **tested}
    whole = vit_jax.load_config(f"configs/transfer.py:B/16,{dataset}")
    assert whole.data.split == ("train800val200" if dataset.startswith("vtab") else "train")


def test_transfer_to_vtab():
    """The settings of the 19 tasks; what would change their labels is left out."""
    flipped = set()
    for name, task in vtab.TASKS.items():
        config = load(f"transfer.py:L/16,vtab/{name}", num_examples=1000)
        assert (config.total_steps, config.optimizer.learning_rate, config.schedule.warmup_steps) == (2500, 0.01, 200)
        assert (config.data.name, config.data.split) == (f"vtab/{name}", "train800val200")
        assert {key: section.split for key, section in config.evaluations.items()} == {"test": "test"}
        assert (config.data.crop == "resize") == (task.group == "structured")
        assert vit_jax.data.info(config).num_examples == 1000
        flipped |= {name} if config.augmentation.flip else set()
    groups = {name: task.group for name, task in vtab.TASKS.items()}
    assert flipped == {name for name, group in groups.items() if group != "structured"} - {"svhn"}


@pytest.mark.parametrize("recipe", ["transfer", "pretrain"])
def test_imagenet_real_and_v2(recipe):
    config = vit_jax.load_config(f"configs/{recipe}.py:B/16,imagenet2012,real,v2")
    of = {key: (section.name, section.split, section.max_labels) for key, section in config.evaluations.items()}
    assert of == {
        "validation": (None, "validation", None),
        "real": ("imagenet2012_real", "validation", 9),
        "v2": ("imagenet_v2/matched-frequency", "test", 1),
    }
    assert vit_jax.load_config(f"configs/{recipe}.py:B/16,imagenet2012,v2").evaluations.keys() == {"validation", "v2"}


@pytest.mark.parametrize(
    ("arguments", "dataset", "tested", "expected"),
    [
        ("digits", ("digits", "train", None), "test", ["classification"]),
        ("imagenet2012,real,probe,v2", ("imagenet2012", "train", None), "validation", ["real", "probe", "v2"]),
        ("imagenet21k,knn", ("imagenet21k", "full[51200:]", None), "full[:51200]", ["knn"]),
        ("vtab/dtd,fewshot,knn", ("vtab/dtd", "train800val200", None), "test", ["fewshot", "knn"]),
        ("folder:/a, b,knn", ("folder", "train", "/a, b"), "test", ["knn"]),
        ("folder:/a,b", ("folder", "train", "/a,b"), "test", ["classification"]),
    ],
)
def test_evaluate(arguments, dataset, tested, expected):
    config = vit_jax.load_config(f"configs/evaluate.py:{arguments}")
    assert (config.data.name, config.data.split, config.data.data_dir) == dataset
    assert set(config.evaluations) == set(expected) and config.preprocessing == config_lib.Preprocessing()
    for name, section in config.evaluations.items():
        if name in ("real", "v2"):
            assert section.kind == "classification" and section.name.startswith("imagenet")
            continue
        assert (section.kind, section.split, section.name) == (name, tested, None)
        assert section.train_split == config.data.split or name == "classification"
        assert bool(section.more_measures) == (name == "classification")


@pytest.mark.parametrize("path", ["transfer.py:B/16,folder:/own, images", "folder.py:/own, images"])
def test_own_images(path):
    config = load(path)
    assert (config.data.name, config.data.data_dir) == ("folder", "/own, images")
    assert config.evaluations["test"].split == "test"


def test_no_test_image_is_held_out(tmp_path):
    """In a folder without test images, what is held out is none of the tenth that later serves as these."""
    for name in "abcd":
        (tmp_path / name).mkdir()
        for i in range(50):
            (tmp_path / name / f"{i}.png").write_bytes(b"")
    kept, whole = (
        vit_jax.data.describe(vit_jax.load_config(f"configs/transfer.py:B/16,{options}folder:{tmp_path}"))
        for options in ("held_out,", "")
    )
    assert (kept["num_examples"], whole["num_examples"]) == (162, 180)
    assert kept["parts"] == whole["parts"] and whole["parts"][0]["held_out"] == 20
