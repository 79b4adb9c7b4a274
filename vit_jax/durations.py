"""Converts the durations of a config to steps, from epochs, examples or percent of the run."""

import dataclasses
from typing import Any

from vit_jax import config as config_lib
from vit_jax.errors import UserError


def total_steps(config: config_lib.Config, num_examples: int | None) -> int:
    """Returns the number of steps of the run.

    Args:
        config: the config.
        num_examples: the number of training examples. It is needed only if the length is given in epochs.

    Raises:
        UserError: the config gives no length, or one of 2**31 steps or more.
    """
    steps = _steps(config, "", "total", config.global_batch_size, num_examples, None)
    if steps is None:
        raise UserError("the config says nowhere how long to train; set config.total_steps or config.total_epochs")
    return steps


def in_steps(config: config_lib.Config, num_examples: int | None) -> config_lib.Config:
    """Returns `config` with every duration in steps; the other units are None.

    Args:
        config: the config.
        num_examples: the number of training examples. It is needed only if a duration is given in epochs.

    Raises:
        UserError: the config gives no length of the run, a duration has 2**31 steps or more, or the warm-up is longer
            than the run.
    """
    total = total_steps(config, num_examples)

    def convert(section: Any, prefix: str, stem: str) -> Any:
        steps = _steps(section, prefix, stem, config.global_batch_size, num_examples, total)
        cleared = {f"{stem}_{u}": None for u in config_lib.UNITS[1:] if hasattr(section, f"{stem}_{u}")}
        return dataclasses.replace(section, **cleared, **{f"{stem}_steps": steps})

    schedule = convert(config.schedule, "schedule.", "warmup")
    if schedule.warmup_steps is not None and schedule.warmup_steps > total:
        key, value = _given(config.schedule, "schedule.", "warmup")
        raise UserError(
            f"config.{key}={value:g} makes a warm-up of {schedule.warmup_steps} steps, longer than the run of {total}; "
            "shorten it, with config.schedule.warmup_percent say, or lengthen the run"
        )
    return dataclasses.replace(
        convert(config, "", "total"),
        schedule=schedule,
        checkpoint=convert(config.checkpoint, "checkpoint.", "every"),
        evaluations={
            name: convert(section, f"evaluations.{name}.", "every") for name, section in config.evaluations.items()
        },
    )


def needs_num_examples(config: config_lib.Config) -> bool:
    """Returns whether the config gives a duration in epochs."""
    return any(key.endswith("_epochs") and value is not None for key, value in config_lib.flatten(config).items())


def _given(section: Any, prefix: str, stem: str) -> tuple[str, Any]:
    """Returns the dotted key and the value of a duration, in the unit that the config gives; ("", None) if in none."""
    for unit in config_lib.UNITS:
        value = getattr(section, f"{stem}_{unit}", None)
        if value is not None:
            return f"{prefix}{stem}_{unit}", value
    return "", None


def _steps(
    section: Any, prefix: str, stem: str, batch_size: int, num_examples: int | None, total: int | None
) -> int | None:
    key, value = _given(section, prefix, stem)
    unit = key.rpartition("_")[2]
    if value is None:
        return None
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
    if steps > config_lib.MOST:
        raise UserError(f"config.{key}={value:g} is too long: a run has fewer than 2**31 steps; give less")
    return max(0 if stem == "warmup" else 1, round(steps))
