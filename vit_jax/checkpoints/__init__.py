"""Checkpoints: the run's own (`store`), and model files in published formats (`model_file`)."""

from vit_jax.checkpoints.model_file import load, save

__all__ = ["load", "save"]
