"""The recipes in configs/ accept the arguments that their docstrings document, and refuse others by one sentence."""

import ast
import pathlib
import re
import shlex
import subprocess
import sys

import jax
import pytest
from etils import epath

import vit_jax
from vit_jax import command_line, config_file, durations
from vit_jax import config as config_lib
from vit_jax.data.catalog import vtab
from vit_jax.errors import UserError
from vit_jax.models import variants
from vit_jax.models.functional import split
from vit_jax.planning import compiling
from vit_jax.studies import checks
from vit_jax.training import start

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES = sorted(file.name for file in (ROOT / "configs").glob("[!_]*.py"))
RUNS = [file for file in FILES if not file.startswith("study_")]  # tests/studies/test_configs.py loads the studies

# The number of training images, to convert epochs to steps.
EXAMPLES = {
    "digits": 1_500,
    "mnist5k": 5_000,
    "folder": 10_000,
    "imagenet2012": 1_281_167,
    "imagenet21k": 14_197_122 - 51_200,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "oxford_iiit_pet": 3_680,
    "oxford_flowers102": 1_020,
    "vtab/dtd": 1_000,
}
TRANSFER = ["imagenet2012", "cifar10", "cifar100", "oxford_iiit_pet", "oxford_flowers102"]
PRETRAIN = [*TRANSFER, "imagenet21k"]


def load(path: str, *overrides: tuple[str, str], num_examples: int | None = None) -> config_lib.Config:
    """Returns the config in configs/`path` as the commands load it, with every duration in steps."""
    config = command_line.load_config(f"configs/{path}", list(overrides))
    return durations.in_steps(config, num_examples or EXAMPLES[config.data.name])


def commands(file: str) -> list[list[str]]:
    """Returns the command lines in the docstring of a recipe, each as a list of words."""
    doc = ast.get_docstring(ast.parse((ROOT / "configs" / file).read_text())) or ""
    joined = re.sub(r"\\?\n\s+(?=--)", " ", doc)
    return [shlex.split(line) for line in joined.splitlines() if line.strip().startswith("python -m vit_jax.")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs each test in another working directory, from which the recipes must be found too."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("file", RUNS)
def test_documented_commands_load(file):
    lines = commands(file)
    assert lines, "the docstring says no command"
    for line in lines:
        flags = dict(arg.split("=", 1) for arg in line[3:])
        config, _ = flags.pop("--config"), flags.pop("--model" if line[2].endswith("evaluate") else "--workdir")
        assert re.match(r"configs/\w+\.py(:|$)", config)
        overrides = [(key.removeprefix("--config."), value) for key, value in flags.items()]
        if line[2] == "vit_jax.study":
            assert checks.checked(config_file.result_of(config, "get_study"), config, overrides).runs
        else:
            load(config.removeprefix("configs/"), *overrides)


@pytest.mark.parametrize("file", FILES)
def test_docstring_says_what_to_expect(file):
    doc = ast.get_docstring(ast.parse((ROOT / "configs" / file).read_text())) or ""
    accuracy = [] if file == "study_resolution.py" else ["%"]  # which measures speeds
    for word in ("hardware", "time", "expect|published", *accuracy):
        assert re.search(word, doc, re.IGNORECASE), f"nothing about {word}"


@pytest.mark.parametrize("arguments", ["", ":", ":Ti/2", ":,0-4", ":,5-9", ":,,10", ":S/4,1-3,5", ":BiT-R50x1,,"])
def test_digits(arguments):
    config = load(f"digits.py{arguments}")
    assert config.data.name == "digits"
    assert config.evaluations["test"].split == "test"
    assert config.log_steps <= 10
    assert config.global_batch_size % 8 == 0
    assert config.model.image_size == 8
    assert 0 < config.schedule.warmup_steps < config.total_steps


def test_digits_default_fits_a_minute():
    config = load("digits.py")
    model = config.model
    assert (model.name, model.width, model.depth, model.mlp_dim, model.num_heads) == ("Ti/2", 64, 4, 128, 4)
    assert config.total_steps == 703
    assert config.evaluations["test"].every_steps == 141


def test_digits_arguments():
    config = load("digits.py:S/4,5-9,10")
    assert config.model.name == "S/4"
    assert config.model.width is config.model.depth is config.model.patch_size is None
    assert config.data.classes == (5, 6, 7, 8, 9)
    assert config.data.labels_per_class == 10
    assert load("digits.py").data.classes == ()


def test_digits_with_few_labels_stay_as_long():
    assert load("digits.py:,,3", num_examples=30).total_steps == load("digits.py").total_steps
    assert load("digits.py:,,3", ("total_epochs", "128"), num_examples=30).total_steps == 30


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("0-4", "leave that blank"),
        ("10", "leave that blank"),
        (",4-0", "the classes '4-0'"),
        (",4", "the classes '4'"),
        (",0-10", "the classes '0-10'"),
        (",low", "the classes 'low'"),
        (",,0", "'0' as the labels"),
        (",,-3", "'-3' as the labels"),
        (",,few", "'few' as the labels"),
        ("Ti/2,0-4,10,5", "too many arguments"),
    ],
)
def test_digits_refuses(arguments, said):
    with pytest.raises(UserError, match=re.escape(said)) as error:
        load(f"digits.py:{arguments}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["bit", "hybrid", "mixer"])
def test_digits_small_families(name, tmp_path):
    """The models are so small that a CPU trains them in a minute or two."""
    model = start.model_of(load(f"digits.py:{name}"), epath.Path(tmp_path))
    assert model.arch.family == {"hybrid": "vit"}.get(name, name)
    assert sum(leaf.size for leaf in jax.tree.leaves(split(model)[1])) < 150_000


@pytest.mark.parametrize("dataset", ["imagenet2012", "imagenet21k"])
@pytest.mark.parametrize("name", ["R50x1", "BiT-R152x4"])
def test_bit(name, dataset):
    config = load(f"bit.py:{name},{dataset}")
    assert config.model.name == f"BiT-{name.removeprefix('BiT-')}"
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("sgd", 0.48)
    assert config.task.loss == ("sigmoid" if dataset == "imagenet21k" else "softmax")
    assert 0 < config.schedule.warmup_steps < config.total_steps


def test_bit_has_a_recipe_of_its_own():
    with pytest.raises(UserError, match="take bit.py:R50x1,imagenet2012"):
        load("pretrain.py:BiT-R50x1,imagenet2012")


@pytest.mark.parametrize("dataset", PRETRAIN)
@pytest.mark.parametrize("variant", ["B/16", "L/32", "R50+B/16", "Mixer-B/16"])
def test_pretrain(variant, dataset):
    config = load(f"pretrain.py:{variant},{dataset}")
    assert config.model.name == variant
    assert config.model.image_size == 224
    assert config.model.dropout == 0.1
    assert config.optimizer.name == "adam"
    assert config.data.crop == "inception"
    assert config.augmentation.flip
    assert 0 < config.schedule.warmup_steps < config.total_steps
    assert len(config.evaluations) == 1


def test_pretrain_is_table_3():
    imagenet, imagenet21k = load("pretrain.py:B/16,imagenet2012"), load("pretrain.py:L/16,imagenet21k")
    for config in (imagenet, imagenet21k):
        assert config.global_batch_size == 4096
        assert config.schedule.warmup_steps == 10_000
        assert (config.optimizer.b1, config.optimizer.b2) == (0.9, 0.999)
    assert imagenet.total_steps == round(300 * 1_281_167 / 4096)
    assert (imagenet.optimizer.learning_rate, imagenet.optimizer.weight_decay) == (3e-3, 0.3)
    assert (imagenet.schedule.name, imagenet.optimizer.grad_clip_norm) == ("cosine", 1.0)
    assert imagenet.evaluations["validation"].split == "validation"

    assert imagenet21k.total_steps == round(90 * (14_197_122 - 51_200) / 4096)
    assert (imagenet21k.optimizer.learning_rate, imagenet21k.optimizer.weight_decay) == (1e-3, 0.03)
    assert (imagenet21k.schedule.name, imagenet21k.schedule.end_learning_rate) == ("linear", 1e-5)
    assert (imagenet21k.task.loss, imagenet21k.model.head_bias) == ("sigmoid", -10.0)
    assert imagenet21k.model.pre_logits == 1024
    assert load("pretrain.py:B/16,imagenet21k").model.pre_logits == 768
    assert imagenet21k.data.split == "full[51200:]"
    assert imagenet21k.evaluations["validation"].split == "full[:51200]"


@pytest.mark.parametrize("dataset", ["imagenet2012", "imagenet21k", "jft300m"])
def test_masked_patches_is_the_appendix(dataset):
    config = vit_jax.load_config(f"configs/masked_patches.py:B/16,{dataset}")
    assert (config.task.name, config.task.target, config.task.masked_share) == ("masked_patches", "mean_colour", 0.5)
    assert (config.optimizer.name, config.optimizer.learning_rate, config.global_batch_size) == ("adam", 2e-4, 4096)
    assert (config.schedule.name, config.schedule.warmup_steps) == ("cosine", 10_000)
    assert config.total_steps == (1_000_000 if dataset == "jft300m" else 100_000)
    assert (config.data.max_labels, config.model.num_classes) == (0, 0)
    assert config.model.scan == vit_jax.load_config(f"configs/pretrain.py:B/16,{dataset}").model.scan
    model = compiling.model_of(config)  # as `plan` makes it, without the data set
    assert model.arch.num_classes == 0 and model.class_names == ()


@pytest.mark.parametrize("dataset", ["digits", "mnist5k"])
def test_masked_patches_in_miniature_fit_few_labels(dataset):
    """The encoder that is left is that of `few_labels.py`, at another image size."""
    small, few = load(f"masked_patches.py:{dataset}"), load("few_labels.py:2")
    same = ("name", "width", "depth", "mlp_dim", "num_heads", "pool", "posemb")
    assert {key: getattr(small.model, key) for key in same} == {key: getattr(few.model, key) for key in same}
    assert small.data.name == dataset and small.evaluations["test"].name == "digits"


@pytest.mark.parametrize("arguments", ["", "B/16", "B/16,cifar10", "digits,B/16", ",imagenet2012", "B/16,digits"])
def test_masked_patches_refuses(arguments):
    with pytest.raises(UserError, match="such as masked_patches.py:B/16,imagenet2012, and got") as error:
        load(f"masked_patches.py:{arguments}")
    assert "\n" not in str(error.value)


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


@pytest.mark.parametrize("dataset", ["imagenet2012", "imagenet21k"])
@pytest.mark.parametrize("regularised", ["", ",regularised"])
def test_augreg(dataset, regularised):
    config = load(f"augreg.py:R26+S/32,{dataset},strong2{regularised}")
    assert (config.model.name, config.global_batch_size, config.model.pre_logits) == ("R26+S/32", 4096, None)
    assert config.total_steps == round(300 * EXAMPLES[dataset] / 4096)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (1e-3, 0.1)
    assert (config.schedule.name, config.schedule.warmup_steps) == ("cosine", 10_000)
    assert config.optimizer.grad_clip_norm == 1.0
    assert (config.model.dropout, config.model.drop_path) == ((0.1, 0.1) if regularised else (0.0, 0.0))
    found = config.augmentation
    assert (found.randaugment_layers, found.randaugment_magnitude, found.mixup) == (2, 20.0, 0.8)
    assert config.task.loss == ("sigmoid" if dataset == "imagenet21k" else "softmax")


@pytest.mark.parametrize(("arguments", "epochs"), [("", 90), (":90", 90), (":150,v2", 150), (":300,real,v2", 300)])
def test_vit_s16_baseline(arguments, epochs):
    config = load(f"vit_s16_baseline.py{arguments}", num_examples=1_268_355)
    assert (config.global_batch_size, config.total_steps) == (1024, round(epochs * 1_268_355 / 1024))
    model, found = config.model, config.augmentation
    assert (model.name, model.posemb, model.pool, model.pre_logits) == ("S/16", "sincos2d", "gap", 384)
    assert (found.randaugment_layers, found.randaugment_magnitude, found.mixup, found.flip) == (2, 10.0, 0.2, True)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (1e-3, 0.1)
    assert (config.optimizer.moment_dtype, config.schedule.warmup_steps) == ("bfloat16", 10_000)
    splits = {name: section.split for name, section in config.evaluations.items()}
    assert (config.data.split, splits["held_out"], splits["validation"]) == ("train[:99%]", "train[99%:]", "validation")
    assert splits.keys() - {"held_out", "validation"} == set(arguments.split(",")[1:])
    assert config.preprocessing.shorter_side == 256


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("evaluate.py", "evaluate.py takes a data set"),
        ("evaluate.py:cifr", "no data set 'cifr'; take digits"),
        ("evaluate.py:cifar10,real", "the option 'real' .*takes each of classification, fewshot, knn, probe once"),
        ("evaluate.py:digits,knn,knn", "'knn'"),
        ("augreg.py", "augreg.py:B/16,imagenet21k,medium1, and got ''"),
        ("augreg.py:B/16,cifar10,none", "the data sets are imagenet21k, imagenet2012"),
        ("augreg.py:B/16,imagenet21k,medium1,dropout", "perhaps regularised"),
        ("augreg.py:B/16,imagenet21k,medium", r"level 'medium' \(did you mean medium"),
        ("augreg.py:Mixer-B/16,imagenet21k,medium1", "take pretrain.py"),
        ("vit_s16_baseline.py:100", "the epochs '100'; it takes 90, 150, 300"),
        ("vit_s16_baseline.py:90,real,real", "each of real, v2 once"),
    ],
)
def test_wrong_arguments_are_one_sentence(path, said):
    with pytest.raises(UserError, match=said) as error:
        vit_jax.load_config(f"configs/{path}")
    assert "\n" not in str(error.value)


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
    ("path", "said"),
    [
        ("transfer.py:B/16,cifar10,real", "can't read the option 'real' .*cifar10 takes each of held_out once"),
        ("transfer.py:B/16,imagenet2012,v3", "'v3' .*takes each of held_out, real, v2 once"),
        ("transfer.py:B/16,imagenet2012,v2,v2", "the option 'v2' of"),
        ("transfer.py:B/16,real,folder:/own", "'real' .*folder takes each of held_out once"),
        ("transfer.py:B/16,cifar10,folder:/own", "can't read the option 'cifar10'"),
        ("transfer.py:B/16,my_folder:/own", "takes a model and a data set"),
        ("transfer.py:B/16,vtab/clevr", "the data sets are .*vtab/clevr_count, vtab/clevr_distance"),
        ("pretrain.py:B/16,cifar10,real", "can't read the option 'real' .*; cifar10 takes none"),
        ("pretrain.py:B/16,imagenet2012,held_out", "'held_out' .*takes each of real, v2 once"),
    ],
)
def test_options_that_a_recipe_does_not_have(path, said):
    with pytest.raises(UserError, match=said) as error:
        vit_jax.load_config(f"configs/{path}")
    assert "\n" not in str(error.value)


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


@pytest.mark.parametrize("arguments", ["folder", "folder:", "cifar10:/photos"])
def test_own_images_have_a_folder_and_others_have_none(arguments):
    with pytest.raises(UserError, match=f"such as transfer.py:B/16,cifar10, and got 'B/16,{arguments}'.*folder:DIR"):
        load(f"transfer.py:B/16,{arguments}")


@pytest.mark.parametrize(
    ("file", "valid"),
    [("pretrain.py", PRETRAIN), ("transfer.py", TRANSFER), ("bit.py", PRETRAIN[::5])],
    ids=["pretrain", "transfer", "bit"],
)
@pytest.mark.parametrize("arguments", ["", ":B/16", ":B/16,", ":,cifar10", ":B/16,cifar", ":cifar10,B/16", ":B/16,jft"])
def test_model_and_data_set_are_needed(file, valid, arguments):
    with pytest.raises(UserError, match="takes a model and a data set") as error:
        load(f"{file}{arguments}")
    assert "\n" not in str(error.value)
    assert all(name in str(error.value) for name in valid)


@pytest.mark.parametrize("options", ["", ",distilled", ",distilled,real,v2"])
def test_deit_is_table_9(options):
    config = load(f"deit.py:S/16,imagenet2012{options}")
    assert (config.global_batch_size, config.total_steps) == (960, round(300 * 1_281_167 / 960))
    assert config.schedule.warmup_steps == round(5 * 1_281_167 / 960)
    optimizer, augmentation = config.optimizer, config.augmentation
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == ("adam", 5e-4 * 960 / 512, 0.05)
    assert (optimizer.grad_clip_norm, config.task.label_smoothing, config.data.repeats) == (0, 0.1, 3)
    assert (config.model.dropout, config.model.drop_path) == (None, 0.1)
    assert (augmentation.randaugment_layers, augmentation.randaugment_magnitude) == (2, 9)
    assert (augmentation.mixup, augmentation.cutmix, augmentation.erasing) == (0.8, 1.0, 0.25)
    distilled = "distilled" in options
    assert config.task.name == ("distillation" if distilled else "classification")
    assert (config.model.distilled, config.model.registers) == ((True, 1) if distilled else (None, None))
    assert config.evaluations.keys() == {"validation", *options.split(",")} - {"", "distilled"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "such as deit.py:S/16,imagenet2012, or deit.py:digits, and got ''"),
        ("S/16", "the data set is imagenet2012"),
        ("L/16,imagenet2012", "the models are Ti/16, S/16, B/16"),
        ("S/16,cifar10", "the data set is imagenet2012"),
        ("S/16,imagenet2012,teacher", "the option 'teacher' .*each of distilled, real, v2 once"),
        ("digits,real", "the option 'real' .*takes each of distilled once"),
    ],
)
def test_deit_refuses(arguments, said):
    with pytest.raises(UserError, match=said) as error:
        vit_jax.load_config(f"configs/deit.py:{arguments}")
    assert "\n" not in str(error.value)


def test_imagenet21k_is_no_transfer_target():
    with pytest.raises(UserError, match="the data sets are imagenet2012, cifar10"):
        load("transfer.py:B/16,imagenet21k")


def test_loading_brings_no_tensorflow_and_no_jax():
    arguments = ["digits.py", "pretrain.py:B/16,cifar10", "transfer.py:B/16,cifar10", "vit_s16_baseline.py"]
    code = f"""
import sys
import vit_jax
from vit_jax import command_line, durations
for argument in {arguments}:
    command_line.load_config("configs/" + argument, [])
print(sorted({{"jax", "flax", "tensorflow"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_larger_than_l_are_scanned():
    """Models larger than L use scan, because they compile slowly when unrolled. All registered variants are tested."""
    for name in variants.names():
        if name.startswith("BiT"):
            continue
        config = vit_jax.load_config(f"configs/pretrain.py:{name},imagenet2012")
        large = variants.named(name).width > variants.SIZES["L"].width
        assert config.model.scan == (name in variants.HYBRIDS or large), name
