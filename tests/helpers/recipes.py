"""The files in configs/, and a recipe as the commands load it."""

import pathlib

from vit_jax import command_line, durations
from vit_jax import config as config_lib

ROOT = pathlib.Path(__file__).resolve().parents[2]
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
