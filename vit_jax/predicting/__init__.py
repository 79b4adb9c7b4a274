"""Predictions for image files: computing them, and writing them for people and for programs."""

from vit_jax.predicting.classify import Prediction, predict
from vit_jax.predicting.formats import FORMATS, Format

__all__ = ["FORMATS", "Format", "Prediction", "predict"]
