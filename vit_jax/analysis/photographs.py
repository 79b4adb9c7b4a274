"""Draws maps over the photographs of an analysis, as pages of a figure."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vit_jax import figures
from vit_jax.analysis.measuring import Analysis
from vit_jax.analysis.overlay import fitted, overlay

PER_PAGE = 12
DPI = 150  # photographs have 224 pixels on about 1.3 inches; more would only make the files larger
_COLUMNS = 3  # photographs beside each other, each with its overlay


def pages(analysis: Analysis, name: str) -> Iterator[Figure]:
    """Yields the pages of a figure: each photograph with the map of an array over it, and its top classes.

    Args:
        analysis: the analysis.
        name: the name of the array (images, rows, columns).
    """
    maps = analysis.arrays[name]
    for start in range(0, len(analysis.photographs), PER_PAGE):
        stop = min(start + PER_PAGE, len(analysis.photographs))
        yield _page(analysis, maps[start:stop], start)


def _page(analysis: Analysis, maps: Float[np.ndarray, "shown rows columns"], start: int) -> Figure:
    rows = -(-len(maps) // _COLUMNS)
    height, width_px = analysis.photographs.shape[1:3]
    tall = 1.25 * min(height / width_px, 2)
    figure = figures.new(8.2, rows * (tall + 0.62))
    grid = np.atleast_2d(figure.subplots(rows, 2 * _COLUMNS)).reshape(-1, 2)
    for axes in grid.ravel():
        axes.set_axis_off()
    for index, (values, (left, right)) in enumerate(zip(maps, grid, strict=False), start):
        picture = fitted(analysis.photographs[index])
        left.imshow(picture, interpolation="none")
        right.imshow(overlay(picture, values), interpolation="none")
        text = "\n".join(f"{_short(top.name)} {top.probability:.0%}" for top in analysis.tops[index])
        left.set_title(text or f"image {index + 1}", fontsize=6, loc="left", parse_math=False)
    return figure


def _short(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
