"""Defines all the keys of a config: the name, type, default, meaning and limits of each.

A key is a dataclass field that `key` makes. The checks of configs and architectures, `--describe` and docs/config.md
read the field's metadata, so a key is described only here. The sections are in the files of this folder.
"""

import dataclasses
from collections.abc import Mapping

from vit_jax.schema.data import Augmentation, Data, Evaluation
from vit_jax.schema.key import UNITS, duration, key
from vit_jax.schema.model import Model, Preprocessing
from vit_jax.schema.running import Checkpoint, Log, Mesh, Wandb
from vit_jax.schema.training import Optimizer, Schedule, Task

__all__ = [
    "FREE_ON_RESUME",
    "UNITS",
    "Augmentation",
    "Checkpoint",
    "Config",
    "Data",
    "Evaluation",
    "Log",
    "Mesh",
    "Model",
    "Optimizer",
    "Preprocessing",
    "Schedule",
    "Task",
    "Wandb",
]


@dataclasses.dataclass(frozen=True)
class Config:
    """The run. Exactly one of `total_steps`, `total_epochs` and `total_examples` gives its length."""

    seed: int = key(
        0,
        "seed of all random numbers, such as initial weights, order of the images and augmentation",
        least=0,
        most=2**32 - 1,
    )
    total_steps: int | None = duration("the run", "steps")
    total_epochs: float | None = duration("the run", "epochs")
    total_examples: int | None = duration("the run", "examples")
    global_batch_size: int = key(512, "number of images in each step, over all devices and processes", above=0)
    accumulation_steps: int = key(
        1, "number of equal micro-batches whose gradients are added up in a step, which saves memory", above=0
    )
    init_from: str | None = key(
        None,
        "weights to start from: a run's folder, a checkpoint file, or a published AugReg model, such as augreg:B/16",
    )
    init_head: str = key(
        "new",
        "with init_from: start with a new head of zeros, or keep the head of the file, whose classes must be the same",
        choices=("new", "keep"),
    )
    log_steps: int = key(50, "number of steps between two log lines; at most a tenth of the run", above=0)
    model: Model = dataclasses.field(default=Model())
    data: Data = dataclasses.field(default=Data())
    preprocessing: Preprocessing = dataclasses.field(default=Preprocessing())
    augmentation: Augmentation = dataclasses.field(default=Augmentation())
    task: Task = dataclasses.field(default=Task())
    optimizer: Optimizer = dataclasses.field(default=Optimizer())
    schedule: Schedule = dataclasses.field(default=Schedule())
    evaluations: Mapping[str, Evaluation] = dataclasses.field(default_factory=dict)
    mesh: Mesh = dataclasses.field(default=Mesh())
    checkpoint: Checkpoint = dataclasses.field(default=Checkpoint())
    log: Log = dataclasses.field(default=Log())
    wandb: Wandb = dataclasses.field(default=Wandb())


# Keys, and sections, that may be changed when a run is resumed, because they do not change what is computed.
FREE_ON_RESUME = (
    "accumulation_steps",
    "checkpoint",
    "data.threads",
    "data.workers",
    "evaluations",
    "log",
    "log_steps",
    "mesh",
    "model.remat",
    "model.scan",
    "optimizer.offload",
    "wandb",
)
