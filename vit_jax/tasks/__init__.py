"""What is learned: each task a file, which turns a batch into a loss and judges a model's outputs."""

from vit_jax.tasks.registry import TASKS, make_task
from vit_jax.tasks.task import Batch, Task

__all__ = ["TASKS", "Batch", "Task", "make_task"]
