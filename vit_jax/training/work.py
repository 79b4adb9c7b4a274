"""The floating-point operations of a training step, which speeds and plans are measured against."""

from vit_jax.config import Config
from vit_jax.models import flops
from vit_jax.models.model import Model
from vit_jax.tasks import make_task
from vit_jax.training import freeze


def flops_of_step(config: Config, model: Model, batch_size: int) -> int:
    """Returns the FLOPs of a training step over `batch_size` images, of the model and of what the task adds.

    Args:
        config: its sections `optimizer` and `task` are read.
        model: its parameters may be shapes.
        batch_size: the number of images in a step.
    """
    of_model = flops.step(model, batch_size, freeze.frozen(config, model))
    return of_model + batch_size * make_task(config.task).further_flops(model.arch)
