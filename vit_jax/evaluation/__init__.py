"""Evaluation of a model: kinds, one a file, and the function that makes those which a config asks for."""

from vit_jax.evaluation.make import make_evaluations
from vit_jax.evaluation.registry import KINDS
from vit_jax.evaluation.subject import Evaluate, Subject

__all__ = ["KINDS", "Evaluate", "Subject", "make_evaluations"]
