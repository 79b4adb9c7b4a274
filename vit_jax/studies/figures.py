"""Draws the figures of a study from its rows."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, NullFormatter, NullLocator

from vit_jax import figures
from vit_jax.studies.spec import Figure, groups

Row = Mapping[str, Any]
_BESIDE = 1.03  # the ratio of the x of one line to that of the next
_ALWAYS = (float("inf"), float("inf"))  # over so many decades, ticks between powers of ten have labels, too


class Point(NamedTuple):
    """A point of a line, with the length of its error bar downwards and upwards."""

    x: float
    y: float
    below: float
    above: float


def lines(figure: Figure, axes: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Point]]:
    """Returns the points of each line of a figure, by the line's label, in the order of x.

    Runs that differ only in `figure.over` make one point. With the statistic `mean`, the error bars are the standard
    deviation of the sample; with `median`, they reach to the smallest and to the largest value. A point of a single run
    has no bars.

    Args:
        figure: which figure.
        axes: the names of the study's axes.
        rows: as `record.rows` returns them. Those without a value of x or y are left out.
    """
    rows = [row for row in rows if all(row[key] == value for key, value in figure.where.items())]
    if figure.along:
        rows = [moment for row in rows for moment in _moments(figure, row)]
    drawn = [row for row in rows if row.get(figure.x.column) is not None and row.get(figure.y.column) is not None]
    found: dict[str, list[Point]] = {}
    places = [*(axis for axis in axes if axis != figure.over), *(["along"] if figure.along else [])]
    for place, same in groups(drawn, places).items():
        label = str(place[places.index(figure.lines)])
        found.setdefault(label, []).append(_point(figure, same))
    origin = found.pop(figure.origin, []) if figure.origin else []
    return {label: sorted([*origin, *points]) for label, points in found.items()}


def _moments(figure: Figure, row: Row) -> list[Row]:
    """Returns a row for each evaluation of a training, with x and y as they were then."""
    if row.get(figure.x.column) is None:
        return []
    return [
        {**row, figure.x.column: row[figure.x.column] * step / row["steps"], figure.y.column: value, "along": step}
        for step, value in row["curves"].get(figure.y.column, [])
    ]


def _point(figure: Figure, rows: Sequence[Row]) -> Point:
    x = statistics.mean(row[figure.x.column] for row in rows)
    values = [row[figure.y.column] for row in rows]
    if figure.statistic == "median":
        middle = statistics.median(values)
        return Point(x, middle, middle - min(values), max(values) - middle)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Point(x, statistics.mean(values), deviation, deviation)


def draw(figure: Figure, axes: Sequence[str], rows: Sequence[Row]) -> Canvas | None:
    """Returns a figure, drawn; None if no run has what it shows."""
    found = lines(figure, axes, rows)
    if not found:
        return None
    with figures.style():
        canvas = figures.new()
        plot = canvas.add_subplot()
        scale = 100 if figure.y.percent else 1
        for place, (label, points) in enumerate(found.items()):
            # Lines that share their x are drawn a little beside each other, so that no error bar hides another.
            beside = _BESIDE ** (place - (len(found) - 1) / 2) if figure.x.log and not figure.along else 1.0
            plot.errorbar(
                [beside * point.x for point in points],
                [scale * point.y for point in points],
                [[scale * point.below for point in points], [scale * point.above for point in points]],
                label=label.replace("_", " "),
                color=figures.COLOURS[place % len(figures.COLOURS)],
                marker=figures.MARKERS[place % len(figures.MARKERS)],
                capsize=2,
                elinewidth=0.8,
            )
        every = [point for points in found.values() for point in points]
        if figure.x.log:
            plot.set_xscale("log")
            _ticks(plot.xaxis, [point.x for point in every], exact=figure.x.column in axes)
        if figure.y.log:
            plot.set_yscale("log")
            _ticks(plot.yaxis, [point.y for point in every], exact=False)
        plot.set_xlabel(figure.x.label)
        plot.set_ylabel(figure.y.label)
        canvas.legend(loc="outside upper center", ncols=min(len(found), 4))
        return canvas


def _ticks(axis: Any, values: Sequence[float], *, exact: bool) -> None:
    """Sets the ticks of a logarithmic axis.

    With `exact` they are the values themselves, if these are few enough to be read. Otherwise there is one at each
    power of ten, and, if the values span less than two of these, also at 2 and 5 times each.
    """
    ticks = sorted(set(values))
    if exact and len(ticks) <= 6 and all(later / earlier >= 1.3 for earlier, later in itertools.pairwise(ticks)):
        axis.set_ticks(ticks)
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    elif ticks[-1] / ticks[0] < 100:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        small = ticks[0] < 1e-3 or ticks[-1] > 1e6
        plain = FuncFormatter(lambda value, _: f"{value:,g}")
        axis.set_major_formatter(
            LogFormatterSciNotation(labelOnlyBase=False, minor_thresholds=_ALWAYS) if small else plain
        )
        axis.set_minor_formatter(NullFormatter())
