"""Studies: many runs that differ along named axes, the table of their results, and figures of it.

Config files of studies import what they need from here. Importing it does not import JAX.
"""

from vit_jax.studies.spec import Axis, Best, Figure, LargestBatch, Measure, Run, Speed, Study, Training, run_at

__all__ = ["Axis", "Best", "Figure", "LargestBatch", "Measure", "Run", "Speed", "Study", "Training", "run_at"]
