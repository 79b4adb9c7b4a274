"""Looks inside trained models: the figures of "An Image is Worth 16x16 Words" (2010.11929), and their numbers."""

from vit_jax.analysis.attention import mean_distance, patch_distances, rollout
from vit_jax.analysis.filters import patch_kernel, principal_components
from vit_jax.analysis.measuring import Analysis, Map, measure
from vit_jax.analysis.positions import similarity
from vit_jax.analysis.sections import NAMES, draw
from vit_jax.analysis.tokens import cka
from vit_jax.analysis.writing import write

__all__ = [
    "NAMES",
    "Analysis",
    "Map",
    "cka",
    "draw",
    "mean_distance",
    "measure",
    "patch_distances",
    "patch_kernel",
    "principal_components",
    "rollout",
    "similarity",
    "write",
]
