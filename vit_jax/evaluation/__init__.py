"""Evaluations of a model. Each kind is a file; `make_evaluations` makes those of a config."""

from vit_jax.evaluation.features import computed_once
from vit_jax.evaluation.judge import evaluate
from vit_jax.evaluation.make import make_evaluations
from vit_jax.evaluation.registry import KINDS
from vit_jax.evaluation.subject import Evaluate, Subject

__all__ = ["KINDS", "Evaluate", "Subject", "computed_once", "evaluate", "make_evaluations"]
