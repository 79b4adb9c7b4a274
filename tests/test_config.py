"""The config: its types, and the errors for wrong keys and values."""

import dataclasses
import json

import pytest

from vit_jax import aliases, durations
from vit_jax import config as config_lib
from vit_jax.config import evaluation, typed
from vit_jax.data.crops import CROPS
from vit_jax.durations import in_steps
from vit_jax.errors import UserError
from vit_jax.evaluation import KINDS
from vit_jax.models.pool import POOLS
from vit_jax.tasks import TASKS
from vit_jax.training.optimizer import OPTIMIZERS


@pytest.fixture
def config():
    config = config_lib.default()
    config.total_steps = 100
    return config


def test_default_holds_every_key_and_none_else(config):
    assert set(config_lib.flatten(typed(config))) == set(config_lib.flatten(config_lib.Config()))
    with pytest.raises(UserError, match=r"no config.learning_rat; .*"):
        config.learning_rat = 3
    with pytest.raises(UserError, match=r"config.model.depht; the nearest valid key is config.model.depth"):
        config.model.depht = 3
    with pytest.raises(UserError, match=r"config.optimizer.b3; the nearest valid key is config"):
        config.optimizer.b3 = 0.5


def test_optional_keys_are_typed(config):
    config.init_from = "file.npz"
    with pytest.raises(UserError, match=r"config.init_from is 3 .int.; it takes str"):
        config.init_from = 3
    config.init_from = None
    assert typed(config).init_from is None


def test_typed_converts_and_is_idempotent(config):
    config.optimizer.learning_rate = 1
    config.model.image_size, config.model.patch_size = [32, 16], 8
    config.optimizer.learning_rate_scale = [["head/", 10]]
    found = typed(config)
    assert found.optimizer.learning_rate == 1.0 and isinstance(found.optimizer.learning_rate, float)
    assert found.model.image_size == (32, 16) and found.model.patch_size == 8
    assert found.optimizer.learning_rate_scale == (("head/", 10.0),)
    assert typed(found) is found
    assert typed(config.to_dict()) == found


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.image_size", "224", "config.model.image_size is '224' .str.; it takes int or a tuple"),
        ("model.image_size", (1, 2, 3), "it takes int or a tuple"),
        ("optimizer.freeze", (3,), "it takes a tuple"),
        ("model.pool", "tk", r"it can be tok, gap, map or tok\+gap \(did you mean tok\?\)"),
        ("optimizer.momentum", 0.8, "nothing reads config.optimizer.momentum=0.8: .*optimizer.name to be sgd"),
        ("data.crop_area_min", 0.3, "needs config.data.crop to be inception"),
        ("data.num_classes", 3, "needs config.data.name to be synthetic"),
        ("model.dropout", 1.0, "at least 0 and below 1"),
        ("global_batch_size", 0, "must be above 0"),
        ("augmentation.rotate_degrees", -3.0, "must be at least 0"),
        ("seed", -1, "at least 0"),
        ("schedule.warmup_steps", -5, "schedule.warmup_steps is -5; it must be at least 0"),
        ("augmentation.mixup", -1.0, "augmentation.mixup is -1.0; it must be at least 0"),
        ("optimizer.b1", 2.0, "optimizer.b1 is 2.0; it must be at least 0 and below 1"),
        ("optimizer.learning_rate_scale", (("head", -1.0),), "it must be at least 0"),
        ("data.crop_area_min", 3.0, "data.crop_area_min is 3.0; it must be at most 1"),
        ("data.crop_area_min", 0.0, "it must be above 0"),
        ("data.workers", -2, "data.workers is -2; it must be at least 0"),
        ("accumulation_steps", 3, "can't be split into config.accumulation_steps=3"),
    ],
)
def test_values_that_cannot_be_meant(config, key, value, message):
    *sections, name = key.split(".")
    section = config[sections[0]] if sections else config

    def set_and_check():
        section[name] = value
        typed(config)

    with pytest.raises(UserError, match=message):
        set_and_check()


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("optimzer.learning_rate", "optimizer.learning_rate"),
        ("learning_rate", "optimizer.learning_rate"),
        ("sed", "seed"),
        ("model.depht", "model.depth"),
        ("evaluations.val.every_stps", "evaluations.val.every_steps"),
    ],
)
def test_nearest_key(key, nearest):
    assert not config_lib.is_key(key)
    assert config_lib.unknown_key(key) == f"there is no config.{key}; the nearest valid key is config.{nearest}"


def test_the_last_unit_counts(config):
    config.total_epochs = 3
    assert config.total_steps is None
    config.checkpoint.every_percent = 10
    assert (config.checkpoint.every_steps, config.checkpoint.every_percent) == (None, 10)
    config.checkpoint.every_examples = 7
    assert config.checkpoint.every_percent is None


def test_durations(config):
    config.global_batch_size = 32
    config.total_epochs = 10
    config.schedule.warmup_percent = 5
    config.checkpoint.every_examples = 320
    config.evaluations.test = evaluation(every_epochs=0.5)
    assert durations.needs_num_examples(typed(config))
    found = in_steps(typed(config), 640)
    assert found.total_steps == 200 and found.schedule.warmup_steps == 10 and found.checkpoint.every_steps == 10
    assert found.evaluations["test"].every_steps == 10
    assert in_steps(found, None) == found
    config.evaluations.test.every_percent = 0.001
    assert in_steps(typed(config), 640).evaluations["test"].every_steps == 1


def test_no_length_and_two_lengths(config):
    config.total_steps = None
    with pytest.raises(UserError, match="nowhere how long to train"):
        in_steps(typed(config), None)
    with pytest.raises(UserError, match="config.total_steps and config.total_epochs are both set"):
        typed({"total_steps": 3, "total_epochs": 4})


def test_two_ways_to_draw_images():
    with pytest.raises(UserError, match="config.data.subset=9 and config.data.labels_per_class=2 both say"):
        typed({"data": {"subset": 9, "labels_per_class": 2}})


@pytest.mark.parametrize(
    ("unit", "value"), [("steps", 101), ("epochs", 60.0), ("examples", 60_000), ("percent", 101.0)]
)
def test_a_warm_up_longer_than_the_run(config, unit, value):
    config.schedule[f"warmup_{unit}"] = value
    with pytest.raises(
        UserError, match=f"config.schedule.warmup_{unit}={value:g} makes .* than the run of 100; shorten"
    ):
        in_steps(typed(config), 1000)
    config.schedule.warmup_percent = 100.0
    assert in_steps(typed(config), None).schedule.warmup_steps == 100


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": {"batch_size": -8}}, "config.evaluations.x.batch_size is -8; it must be above 0"),
        ({"x": 3}, "config.evaluations.x is 3; it is a section, with keys such as evaluations.x.kind"),
        (3, "config.evaluations is 3; it is a section"),
        ({"x": {"splt": "a"}}, "no config.evaluations.x.splt; the nearest valid key is config.evaluations.x.split"),
    ],
)
def test_evaluations_that_cannot_be_meant(values, message):
    with pytest.raises(UserError, match=message):
        typed({"evaluations": values})
    assert typed({"evaluations": {"v1.5": {"split": "a"}}}).evaluations["v1.5"].split == "a"


def test_differences_between_runs(config):
    recorded = json.loads(json.dumps(dataclasses.asdict(typed(config))))
    assert config_lib.differences(recorded, typed(config)) == []
    config.mesh.fsdp, config.log_steps, config.data.workers, config.checkpoint.keep = 2, 3, 1, 5
    config.evaluations.more, config.model.scan, config.accumulation_steps = evaluation(), False, 2
    assert config_lib.differences(recorded, typed(config)) == []
    config.seed, config.model.image_size = 3, (224, 112)
    assert config_lib.differences(recorded, typed(config)) == [
        "config.model.image_size was 224 and is [224, 112]",
        "config.seed was 0 and is 3",
    ]


def test_a_key_newer_than_the_record_is_at_its_default_there(config):
    recorded = json.loads(json.dumps(dataclasses.asdict(typed(config))))
    del recorded["data"]["exif"], recorded["preprocessing"]
    assert config_lib.differences(recorded, typed(config)) == []
    config.data.exif, config.preprocessing.shorter_side = "apply", 256
    assert config_lib.differences(recorded, typed(config)) == [
        "config.data.exif was 'ignore' and is 'apply'",
        "config.preprocessing.shorter_side was None and is 256",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("total_steps", "x", "config.total_steps is 'x' .str.; it takes int"),
        ("optimizer.learning_rate", "a", "config.optimizer.learning_rate is 'a' .str.; it takes float"),
        ("optimizer.learning_rate", True, "config.optimizer.learning_rate is True"),
        pytest.param("total_epochs", 10**400, "it takes float", id="no-float"),
        ("model", 3, "config.model is 3; it is a section, with keys such as model"),
        ("evaluations", 3, "config.evaluations is 3; it is a section"),
        ("evaluations.x", 3, "config.evaluations.x is 3; it is a section"),
        ("evaluations.test.split", 3, "config.evaluations.NAME.split is 3 .int.; it takes str"),
    ],
)
def test_types_are_checked_when_a_key_is_set(config, key, value, message):
    config.evaluations.test = evaluation()
    *sections, name = key.split(".")
    section = config
    for inner in sections:
        section = section[inner]
    with pytest.raises(UserError, match=message):
        section[name] = value
    with pytest.raises(UserError, match=message):
        config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match="it takes str"):
        evaluation(split=3)


def test_what_fits_is_converted_when_a_key_is_set(config):
    config.optimizer.learning_rate, config.model.image_size = 1, [8, 16]
    config.update({"optimizer": {"weight_decay": 2}, "total_steps": 7})
    assert typed(config).model.image_size == (8, 16) and typed(config).optimizer.weight_decay == 2.0
    assert isinstance(typed(config).optimizer.learning_rate, float) and config.total_steps == 7


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("total_epochs", float("nan"), "must be a finite number"),
        ("optimizer.eps", float("inf"), "must be a finite number"),
        ("optimizer.learning_rate_scale", (("head", float("nan")),), "must be a finite number"),
        ("global_batch_size", 2**40, "must be below 2..31"),
        ("total_epochs", 1e308, "config.total_epochs=1e.308 is too long: a run has fewer than 2..31"),
        ("total_epochs", 1e300, "a run has fewer than 2..31"),
        ("schedule.warmup_percent", 1e30, "a run has fewer than 2..31"),
    ],
)
def test_numbers_that_no_run_has(config, key, value, message):
    *sections, name = key.split(".")
    section = config[sections[0]] if sections else config
    section[name] = value
    with pytest.raises(UserError, match=message):
        in_steps(typed(config), 1000)


def test_what_other_programs_call_a_key_is_told(config):
    valid = {*config_lib.KEYS, "--workdir"}
    for name, (key, _) in aliases.ALIASES.items():
        assert key in valid and name not in config_lib.flatten(config_lib.Config()), name
    for foreign, key in (
        ("lr", "optimizer.learning_rate"),
        ("optimizer.lr", "optimizer.learning_rate"),
        ("batch_size", "global_batch_size: .* over all devices"),
        ("epochs", "total_epochs"),
        ("wd", "optimizer.weight_decay: .* decoupled"),
        ("num_workers", "data.workers"),
        ("lr_schedule", "schedule.name"),
        ("warmup_ratio", "schedule.warmup_percent: .* 100 times"),
    ):
        section, _, name = foreign.rpartition(".")
        with pytest.raises(UserError, match=f"config.{foreign}; what is meant here is config.{key}"):
            setattr(config[section] if section else config, name, 1)
    with pytest.raises(UserError, match="config.lr; what is meant here is config.optimizer.learning_rate"):
        typed({"lr": 1})
    assert "what is meant here is --workdir" in config_lib.unknown_key("output_dir")


@pytest.mark.parametrize(("name", "says"), [("adamw", "decoupled already"), ("muon", "it can be adam, sgd"),
                                            ("momentum", "optimizer.momentum")])  # fmt: skip
def test_other_optimizers(config, name, says):
    config.optimizer.name = name
    with pytest.raises(UserError, match=says):
        typed(config)


def test_registries_hold_what_the_config_can_choose():
    registries = {"evaluations.NAME.kind": KINDS, "task.name": TASKS, "optimizer.name": OPTIMIZERS, "model.pool": POOLS}
    for name, registry in registries.items():
        assert tuple(registry) == config_lib.key_at(name).limits.choices
    assert set(config_lib.key_at("data.crop").limits.choices) == set(CROPS) - {"centre"}  # evaluations alone
