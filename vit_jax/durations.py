"""Durations of a config in steps: from epochs, examples or percent of the run."""

import dataclasses
from typing import Any

from vit_jax import config as config_lib
from vit_jax.errors import UserError


def total_steps(config: config_lib.Config, num_examples: int | None) -> int:
    """The length of the run. `num_examples`, those of the training split, is needed for epochs only.

    Raises:
        UserError: no length is given.
    """
    steps = _steps(config, "total", config.global_batch_size, num_examples, None)
    if steps is None:
        raise UserError("the config says nowhere how long to train; set config.total_steps or config.total_epochs")
    return steps


def in_steps(config: config_lib.Config, num_examples: int | None) -> config_lib.Config:
    """`config` with every duration given in steps."""
    total = total_steps(config, num_examples)

    def convert(section: Any, stem: str) -> Any:
        steps = _steps(section, stem, config.global_batch_size, num_examples, total)
        cleared = {f"{stem}_{u}": None for u in config_lib.UNITS[1:] if hasattr(section, f"{stem}_{u}")}
        return dataclasses.replace(section, **cleared, **{f"{stem}_steps": steps})

    return dataclasses.replace(
        convert(config, "total"),
        schedule=convert(config.schedule, "warmup"),
        checkpoint=convert(config.checkpoint, "every"),
        evaluations={name: convert(section, "every") for name, section in config.evaluations.items()},
    )


def needs_num_examples(config: config_lib.Config) -> bool:
    """Whether some duration is given in epochs."""
    return any(key.endswith("_epochs") and value is not None for key, value in config_lib.flatten(config).items())


def _steps(section: Any, stem: str, batch_size: int, num_examples: int | None, total: int | None) -> int | None:
    for unit in config_lib.UNITS:
        value = getattr(section, f"{stem}_{unit}", None)
        if value is None:
            continue
        if unit == "steps":
            return value
        if unit == "epochs":
            assert num_examples is not None, "epochs need the number of training examples"
            steps = value * num_examples / batch_size
        elif unit == "examples":
            steps = value / batch_size
        else:
            assert total is not None
            steps = value / 100 * total
        least = 0 if stem == "warmup" else 1
        if steps > config_lib.MOST:
            raise UserError(f"{stem}_{unit}={value:g} are {steps:.4g} steps; a run has fewer than 2**31")
        return max(least, round(steps))
    return None
