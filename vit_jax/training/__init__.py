"""Training: tasks, state, step, loop."""

from vit_jax.training.loop import train
from vit_jax.training.state import create_state, resolve
from vit_jax.training.step import make_step

__all__ = ["create_state", "make_step", "resolve", "train"]
