"""Config files, and the flags that change their values."""

import pytest

import vit_jax
from vit_jax import command_line
from vit_jax.errors import UserError

FILE = """
from vit_jax import config as config_lib


def get_config(arguments=""):
    config = config_lib.default()
    config.total_epochs = 5.0
    config.evaluations.test = config_lib.evaluation(every_percent=20.0)
    if arguments:
        config[arguments] = 2
    return config
"""


@pytest.fixture
def load(tmp_path):
    (tmp_path / "file.py").write_text(FILE)

    def load(*args, file="file.py"):
        rest, overrides = command_line._split(["main", *args])
        assert rest == ["main"]
        return command_line.load_config(str(tmp_path / file), overrides)

    return load


def test_flags_reach_every_key(load):
    config = load(
        "--config.total_steps=3", "--config.model.image_size=(4, 5)", "--config.optimizer.freeze=embedding",
        "--noconfig.model.scan", "--config.augmentation.flip", "--config.evaluations.test.every_steps", "7",
        "--config.init_from=a=b", "--config.optimizer.learning_rate=1e-4", "--config.log.tensorboard=False",
        "--config.data.labels_per_class=none", "--config.optimizer.learning_rate_scale=(('head/', 10),)",
    )  # fmt: skip
    assert (config.total_steps, config.total_epochs) == (3, None)
    assert config.model.image_size == (4, 5) and not config.model.scan and config.augmentation.flip
    assert config.optimizer.freeze == ("embedding",) and config.optimizer.learning_rate == 1e-4
    assert config.evaluations["test"].every_steps == 7 and config.evaluations["test"].every_percent is None
    assert config.init_from == "a=b" and not config.log.tensorboard and config.data.labels_per_class is None
    assert config.optimizer.learning_rate_scale == (("head/", 10.0),)


def test_arguments_reach_the_file(load):
    assert load(file="file.py:seed").seed == 2
    with pytest.raises(UserError, match=r"config.sed; the nearest valid key is config.seed"):
        load(file="file.py:sed")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.sed=3", "no config.sed; the nearest valid key is config.seed"),
        ("--config.seed=x", "config.seed is 'x' .str.; it takes int"),
        ("--config.model.scan=maybe", "config.model.scan is 'maybe' .str.; it takes bool"),
        ("--config.evaluations.val.every_steps=3", "config's evaluations are test"),
        ("--config.seed", "--config.seed needs a value"),
    ],
)
def test_flags_that_cannot_be_meant(load, flag, message):
    with pytest.raises(UserError, match=message):
        load(flag)


def test_files_that_are_not_there_or_fail(load, tmp_path):
    with pytest.raises(UserError, match=r"no config file .*other.py.* installed are .*configs/digits.py"):
        load(file="other.py")
    (tmp_path / "bad.py").write_text("def get_config():\n    return 1 / 0\n")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        load(file="bad.py")
    with pytest.raises(UserError, match="which config"):
        command_line.load_config(None, [])


def test_a_file_in_the_working_directory_comes_first(load, tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.py").write_text(FILE.replace("5.0", "77.0"))
    monkeypatch.chdir(tmp_path)
    assert command_line.load_config("configs/digits.py", []).total_epochs == 77
    (tmp_path / "configs" / "digits.py").unlink()
    assert command_line.load_config("configs/digits.py", []).data.name == "digits"


@pytest.mark.parametrize(
    "overrides",
    [
        {"optimizer.learning_rate": 0.5, "model.image_size": (4, 5), "total_steps": "7"},
        ["--config.optimizer.learning_rate=0.5", "config.model.image_size=(4, 5)", "total_steps=7"],
        [("optimizer.learning_rate", 0.5), ("model.image_size", [4, 5]), ("total_steps", 7)],
    ],
)
def test_load_config_in_python(tmp_path, overrides):
    (tmp_path / "file.py").write_text(FILE)
    config = vit_jax.load_config(str(tmp_path / "file.py"), overrides)
    assert (config.optimizer.learning_rate, config.model.image_size, config.total_steps) == (0.5, (4, 5), 7)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"lr": 0.5}, "what is meant here is config.optimizer.learning_rate"),
        (["total_steps"], "the override 'total_steps' has no value; write KEY=VALUE"),
        ({"total_steps": 0.5}, "config.total_steps is 0.5 .float.; it takes int"),
    ],
)
def test_overrides_that_cannot_be_meant(overrides, message):
    with pytest.raises(UserError, match=message):
        vit_jax.load_config("configs/digits.py", overrides)


@pytest.mark.parametrize("verb", ["predict", "convert"])
def test_help_shows_the_keywords_of_files(start, verb):
    out = start(verb, "--help", without=("jax", "wandb")).communicate()[0]
    for flag in ("--num_heads", "--posemb", "--image_size", "where the file does not tell"):
        assert flag in out, out
