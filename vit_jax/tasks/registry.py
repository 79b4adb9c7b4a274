"""The tasks by the name that `config.task.name` gives."""

from collections.abc import Callable

from vit_jax import config as config_lib
from vit_jax.tasks.classification import Classification
from vit_jax.tasks.distillation import Distillation
from vit_jax.tasks.masked_patches import MaskedPatches
from vit_jax.tasks.task import Task

TASKS: dict[str, Callable[[config_lib.Task], Task]] = {
    "classification": Classification,
    "distillation": Distillation,
    "masked_patches": MaskedPatches,
}


def make_task(settings: config_lib.Task) -> Task:
    """Returns the task that the config's section names."""
    return TASKS[settings.name](settings)
