"""Studies: many runs that differ along named axes, the table of their results, and figures of it.

Config files of studies import what they need from here. Importing it does not import JAX.
"""

from typing import Any

from vit_jax.studies.spec import Axis, Best, Figure, LargestBatch, Measure, Run, Speed, Study, Training, run_at

__all__ = [
    "Axis",
    "Best",
    "Figure",
    "LargestBatch",
    "Measure",
    "Run",
    "Speed",
    "Study",
    "Training",
    "make_study",
    "run_at",
]


def __getattr__(name: str) -> Any:
    if name == "make_study":  # imports JAX
        from vit_jax.studies.making import make_study

        return make_study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
