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
    steps = _steps(config, "", "total", config.global_batch_size, num_examples, None)
    if steps is None:
        raise UserError("the config says nowhere how long to train; set config.total_steps or config.total_epochs")
    return steps


def in_steps(config: config_lib.Config, num_examples: int | None) -> config_lib.Config:
    """Returns `config` with every duration given in steps.

    Raises:
        UserError: no length is given, a duration is longer than any run, or the warm-up longer than this one.
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
    """Whether some duration is given in epochs."""
    return any(key.endswith("_epochs") and value is not None for key, value in config_lib.flatten(config).items())


def _given(section: Any, prefix: str, stem: str) -> tuple[str, Any]:
    """Returns the dotted key and the value of the unit that a duration is given in; the value is None without one."""
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
