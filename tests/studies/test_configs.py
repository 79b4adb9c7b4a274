"""The studies in configs/ with all their arguments: every config of every run is valid, and so is its model."""

import ast
import functools
import pathlib
import re
import shlex

import pytest
from etils import epath

from vit_jax import config_file, data, durations
from vit_jax.errors import UserError
from vit_jax.studies import LargestBatch, Training, checks, spec, table
from vit_jax.training import start

ROOT = pathlib.Path(__file__).parents[2]
ARGUMENTS = {
    "study_data_size.py": ["", "tiny", "imagenet2012,cifar10", "imagenet21k,imagenet2012", "jft300m,oxford_iiit_pet"],
    "study_pooling.py": ["", "tiny", "imagenet2012"],
    "study_posemb.py": ["", "tiny", "imagenet2012"],
    "study_scaling.py": ["", "tiny", "imagenet2012"],
    "study_resolution.py": ["", "tiny", "large", "v3:2x2"],
    "study_transfer.py": ["", "tiny", "B/16,cifar100", "L/16,imagenet2012,real,v2", "B/16,vtab", "B/16,vtab/dtd"],
}
RARE = ("imagenet21k,imagenet2012", "jft300m,oxford_iiit_pet", "large")  # like others, and left to the slow tests
CASES = [(file, arguments) for file, every in ARGUMENTS.items() for arguments in every]


@functools.cache
def load(file, arguments="", overrides=()):
    """Returns a study in configs/; the studies can't be changed, so each is made once."""
    path = f"configs/{file}" + (f":{arguments}" if arguments else "")
    return checks.checked(config_file.result_of(path, "get_study"), path, overrides)


def test_every_study_is_tested():
    assert sorted(ARGUMENTS) == sorted(file.name for file in (ROOT / "configs").glob("study_*.py"))


@pytest.mark.parametrize(("file", "arguments"), [case for case in CASES if case[1] not in RARE])
def test_every_config_is_valid(file, arguments):
    check(file, arguments)


def check(file, arguments):
    """Checks every config of a study without building its model."""
    for run in load(file, arguments).runs:
        for stage in run.stages:
            for config in map(data.resolved, spec.configs(stage).values()):
                start.check(config)
                assert config.schedule.warmup_steps <= config.total_steps


@pytest.mark.slow
@pytest.mark.parametrize(("file", "arguments"), CASES)
def test_every_model_can_be_built(file, arguments):
    check(file, arguments)
    stages = [stage for run in load(file, arguments).runs for stage in run.stages]
    configs = {repr((c.model, c.data.name)): c for stage in stages for c in spec.configs(stage).values()}
    assert len(configs) > 1 or file == "study_transfer.py"
    for config in configs.values():
        known = data.info(config)
        names = known.class_names or tuple(map(str, range(known.num_classes)))
        assert start.model_of(config, epath.Path("no run"), names).arch.num_classes == known.num_classes


@pytest.mark.parametrize("file", ARGUMENTS)
def test_documented_commands(file):
    doc = ast.get_docstring(ast.parse((ROOT / "configs" / file).read_text()))
    joined = re.sub(r"\\?\n\s+(?=--)", " ", doc)
    lines = [shlex.split(line) for line in joined.splitlines() if line.strip().startswith("python -m vit_jax.")]
    assert lines
    for line in lines:
        assert line[2] == "vit_jax.study"
        flags = dict(arg.partition("=")[::2] for arg in line[3:])
        name, _, arguments = flags["--config"].removeprefix("configs/").partition(":")
        overrides = tuple((k.removeprefix("--config."), v) for k, v in flags.items() if k.startswith("--config."))
        study = load(name, arguments, overrides)
        assert name == file and flags["--workdir"]
        assert spec.chosen(study, [flags["--only"]] if "--only" in flags else [])


@pytest.mark.parametrize("file", ARGUMENTS)
def test_other_arguments_are_refused(file):
    with pytest.raises(UserError, match=f"{file} can't read 'imagenet'"):
        load(file, "imagenet")


def test_the_45_runs():
    """Figures 3 to 5 in miniature: the tested images are trained on in no run, and all runs are of one length."""
    study = load("study_data_size.py")
    assert len(study.runs) == 45
    for run in study.runs:
        pretrain, transfer = (stage.config for stage in run.stages)
        assert (pretrain.data.split, pretrain.data.subset) == ("train[:4000]", run.axes["examples"])
        assert pretrain.evaluations["test"].split == "train[4000:]+test"
        assert pretrain.seed == transfer.seed == run.axes["seed"]
        assert pretrain.augmentation == type(pretrain.augmentation)()
        assert pretrain.total_steps == study.runs[0].stages[0].config.total_steps
        assert transfer.data.labels_per_class == 2 and run.stages[1].starts_from == "pretrain"


def test_the_pod_trains_by_the_recipes():
    study = load("study_data_size.py", "imagenet2012,cifar10", (("mesh.fsdp", "4"), ("checkpoint.every_steps", "500")))
    for run in study.runs:
        pretrain, transfer = (stage.config for stage in run.stages)
        variant = run.axes["model"].removeprefix("ViT-")
        recipe = f"bit.py:{variant}" if variant.startswith("BiT") else f"pretrain.py:{variant}"
        whole = config_file.load_config(f"configs/{recipe},imagenet2012")
        assert durations.total_steps(pretrain, None) == durations.total_steps(whole, 1_281_167)
        assert pretrain.optimizer == whole.optimizer and pretrain.model == whole.model
        assert transfer.optimizer == config_file.load_config(f"configs/transfer.py:{variant},cifar10").optimizer
        assert pretrain.mesh.fsdp == transfer.mesh.fsdp == 4


def test_relative_positions_are_in_layers():
    places = {(run.axes["positions"], run.axes["at"]) for run in load("study_posemb.py").runs}
    assert len(places) == 9 and ("relative", "stem") not in places and ("none", "nowhere") in places


def test_the_scaled_models_begin_with_one():
    study = load("study_scaling.py")
    base = study.runs[0].stages[0].config.model
    assert [run.axes["scaled"] for run in study.runs[8:10]] == ["patch_size", "all"]
    for run in study.runs[1:9]:
        model = run.stages[0].config.model
        differing = [
            key for key in ("depth", "width", "mlp_dim", "patch_size") if getattr(model, key) != getattr(base, key)
        ]
        assert differing == [run.axes["scaled"]]


@pytest.mark.parametrize("arguments", ["", "imagenet2012"])
def test_all_sizes_are_scaled_by_two(arguments):
    runs = load("study_scaling.py", arguments).runs
    base, scaled = (
        next(run.stages[0].config.model for run in runs if run.axes["scaled"] == name) for name in ("base", "all")
    )
    for key in ("depth", "width", "mlp_dim"):
        assert getattr(scaled, key) == 2 * getattr(base, key)
    assert 2 * scaled.patch_size == base.patch_size


def test_a_slice_finds_batches_and_measures_no_speed():
    assert {type(stage) for run in load("study_resolution.py", "v3:2x2").runs for stage in run.stages} == {LargestBatch}
    assert not any(isinstance(s, Training) for run in load("study_resolution.py").runs for s in run.stages)


TRANSFER = {"cifar100": (0.001, 0.003, 0.01, 0.03), "imagenet2012,real,v2": (0.003, 0.01, 0.03, 0.06)}


@pytest.mark.parametrize("data", TRANSFER)
def test_the_learning_rate_is_chosen_on_images_held_out(data):
    """As Table 4 says: each stage is the recipe's own config, with another learning rate and seed."""
    dataset = data.partition(",")[0]
    overrides = ("init_from", "x.npz"), ("total_steps", "700")
    study = load("study_transfer.py", f"B/16,{data}", overrides)
    assert [run.axes["seed"] for run in study.runs] == [0, 1, 2]
    for run in study.runs:
        *candidates, final = run.stages
        assert tuple(stage.config.optimizer.learning_rate for stage in candidates) == TRANSFER[data]
        assert (final.measure, [*final.configs]) == ("held_out/accuracy", [stage.name for stage in candidates])
        for stage in candidates:
            rate = ("optimizer.learning_rate", stage.config.optimizer.learning_rate)
            changes = (*overrides, ("seed", run.axes["seed"]), rate)
            recipe = f"configs/transfer.py:B/16,{dataset},held_out", f"configs/transfer.py:B/16,{data}"
            assert stage.config == config_file.load_config(recipe[0], changes)
            assert final.configs[stage.name] == config_file.load_config(recipe[1], changes)
    others = ["real", "v2"] if "," in data else []
    assert [measure.column for measure in study.measures] == ["accuracy", *others]
    assert study.measures[0].name == ("validation/accuracy" if others else "test/accuracy")


def test_own_images_are_held_out():
    *candidates, final = load("study_transfer.py", "B/16,folder:/own, images").runs[0].stages
    assert {(c.config.data.data_dir, c.config.data.split) for c in candidates} == {("/own, images", "train[:90%]")}
    assert {(config.data.data_dir, config.data.split) for config in final.configs.values()} == {
        ("/own, images", "train")
    }


def test_the_19_tasks_and_their_means():
    study = load("study_transfer.py", "L/16,vtab")
    assert len(study.runs) == 3 * 19 and all(len(run.stages) == 1 for run in study.runs)
    for run in study.runs[:19]:
        recipe = f"configs/transfer.py:L/16,vtab/{run.axes['task']}"
        assert run.stages[0].config == config_file.load_config(recipe)
    rows = [{**run.axes, "accuracy": 1.0} for run in study.runs[:19]]
    counts = {row.get("group", "all"): row["runs"] for row in table.means(study, rows)}
    assert counts == {"natural": 7, "specialised": 4, "structured": 8, "all": 19}


def test_held_out_is_no_option_of_the_study():
    with pytest.raises(UserError, match="holds out images of cifar10 itself; leave out the option held_out"):
        load("study_transfer.py", "B/16,cifar10,held_out")
