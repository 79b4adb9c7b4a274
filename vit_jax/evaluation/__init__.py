"""Evaluation of a model on a split."""

from vit_jax.evaluation.classification import make_evaluations

__all__ = ["make_evaluations"]
