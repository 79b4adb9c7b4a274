"""What people look at in a notebook: images, and the metrics of runs as a table and as a figure."""

from vit_jax.showing.images import show
from vit_jax.showing.metrics import plot_metrics, read_metrics

__all__ = ["plot_metrics", "read_metrics", "show"]
