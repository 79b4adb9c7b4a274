"""The schedule of the learning rate."""

import optax

from vit_jax.config import Config


def make_schedule(config: Config) -> optax.Schedule:
    """Returns the function from a step to its learning rate: a linear warm-up from 0 to the peak, then the decay.

    Steps count from 0. After the last step of the run the rate is `schedule.end_learning_rate` (for the schedule
    "constant", the peak).

    Args:
        config: a resolved config, whose durations are given in steps.
    """
    settings, peak, warmup = config.schedule, config.optimizer.learning_rate, config.schedule.warmup_steps or 0
    assert config.total_steps is not None
    steps = max(config.total_steps - warmup, 1)
    if settings.name == "cosine":
        decay = optax.cosine_decay_schedule(peak, steps, alpha=settings.end_learning_rate / peak if peak else 0.0)
    elif settings.name == "linear":
        decay = optax.linear_schedule(peak, settings.end_learning_rate, steps)
    else:
        decay = optax.constant_schedule(peak)
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), decay], [warmup])
