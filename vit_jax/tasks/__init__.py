"""What can be learned: tasks, one a file, by the name that `config.task.name` gives."""

from vit_jax.tasks.learner import Learner
from vit_jax.tasks.registry import TASKS, make_task
from vit_jax.tasks.task import Batch, Task

__all__ = ["TASKS", "Batch", "Learner", "Task", "make_task"]
