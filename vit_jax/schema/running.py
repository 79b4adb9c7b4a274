"""The sections about devices, checkpoints and what is logged."""

import dataclasses

from vit_jax.schema.key import duration, key


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The sizes of the axes of the device mesh. One of them may be -1, which stands for all the remaining devices."""

    data: int = key(
        -1, "parts that the batch is split into; the only axis that may extend over several slices", least=-1
    )
    fsdp: int = key(1, "parts that the batch, the parameters and the optimizer state are split into", least=-1)
    tensor: int = key(1, "parts that the heads and the hidden features of the MLP are split into", least=-1)
    sequence: int = key(1, "parts that the tokens of an image are split into", least=-1)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """When checkpoints are saved. One is always saved at the last step, on SIGTERM and on Ctrl-C."""

    every_steps: int | None = duration("interval between two checkpoints", "steps", 1000)
    every_epochs: float | None = duration("interval between two checkpoints", "epochs")
    every_examples: int | None = duration("interval between two checkpoints", "examples")
    every_percent: float | None = duration("interval between two checkpoints", "percent")
    keep: int = key(2, "number of newest checkpoints that are kept", above=0)


@dataclasses.dataclass(frozen=True)
class Log:
    """What is logged in addition to metrics.jsonl, which is always written."""

    tensorboard: bool = key(True, "also write event files for TensorBoard")
    parameters: str = key(
        "short",
        "table of parameters at the start: with one line for each group of parameters, or for each parameter",
        choices=("short", "all"),
    )


@dataclasses.dataclass(frozen=True)
class Wandb:
    """Settings of Weights & Biases (W&B), which is used, in addition to the other logs, if `project` is set.

    It needs `pip install 'vit_jax[wandb]'`.
    """

    project: str | None = key(None, "W&B project that receives the metrics and the config; None to not use W&B")
    entity: str | None = key(
        None, "user or team that owns the project; by default W&B's own default", needs=("project",)
    )
    name: str | None = key(None, "name of the run in W&B; by default the last part of the workdir", needs=("project",))
    mode: str = key(
        "online",
        "online sends data during the run; offline keeps them in WORKDIR/wandb for `wandb sync`",
        choices=("online", "offline"),
        needs=("project",),
    )
