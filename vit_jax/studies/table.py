"""The table of a study, in Markdown, and means over its axes, both from its rows."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax.studies.spec import Best, Measure, Study, groups, number

Row = Mapping[str, Any]


def means(study: Study, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns a row for each mean that the study asks for, of all runs at a place on the axes that remain.

    A row has `over`, the axes over which the mean is taken; the other axes; the mean of each measure; and `runs`, the
    number of runs. A mean is left out as long as one of its runs is missing.

    Args:
        study: names the axes in `means`.
        rows: as `record.rows` returns them.
    """
    found: list[dict[str, Any]] = []
    for over in study.means:
        axes = [axis for axis in study.axes if axis not in over]
        wanted = groups((run.axes for run in study.runs), axes)
        for place, same in groups(rows, axes).items():
            if len(same) == len(wanted[place]):
                columns = [m.column for m in study.measures if all(m.column in row for row in same)]
                values = {column: statistics.mean(row[column] for row in same) for column in columns}
                found.append({"over": over, **dict(zip(axes, place, strict=True)), **values, "runs": len(same)})
    return found


def markdown(study: Study, rows: Sequence[Row]) -> str:
    """Returns the results as a table in Markdown: for each place on the axes the mean ± the standard deviation.

    Runs that differ only in `study.over` make one line. Shares are in percent. After the measures come the candidates
    that were chosen, the number of runs of the line, the parameters and the compute of the first training. The lines
    of the study's means come last.
    """
    axes = [axis for axis in study.axes if axis != study.over]
    measures = [measure for measure in study.measures if any(measure.column in row for row in rows)]
    choices = list(dict.fromkeys(s.name for run in study.runs for s in run.stages if isinstance(s, Best)))
    extra = [column for column in ("parameters", "exaflops") if any(column in row for row in rows)]
    heads = [f"{m.column.replace('_', ' ')}{' (%)' if m.percent else ''}" for m in measures]
    chosen_for = [f"chosen for {_words(stage)}" for stage in choices]
    head = [*map(_words, axes), *heads, *chosen_for, "runs", *extra]

    def line(place: Sequence[Any], same: Sequence[Row], chosen: Sequence[str], runs: int, more: Sequence[str]) -> str:
        names = [value if isinstance(value, str) else number(value) for value in place]
        return _line([*names, *(_cell(same, measure) for measure in measures), *chosen, str(runs), *more])

    lines = [_line(head), _line([":--" if i < len(axes) else "--:" for i in range(len(head))])]
    for place, same in groups(rows, axes).items():
        chosen, more = [_chosen(same, stage) for stage in choices], [_of_first(same[0], column) for column in extra]
        lines.append(line(place, same, chosen, len(same), more))
    of_means = [dict.fromkeys(row["over"], "mean") | row for row in means(study, rows)]
    for place, same in groups(of_means, ["over", *axes]).items():
        lines.append(line(place[1:], same, ["–"] * len(choices), sum(row["runs"] for row in same), ["–"] * len(extra)))
    return "".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(rows: Sequence[Row], measure: Measure) -> str:
    """Returns the mean of a measure over rows, with the standard deviation if there are several."""
    scale, form = (100, "{:.1f}") if measure.percent else (1, "{:,.4g}")
    values = [scale * row[measure.column] for row in rows if measure.column in row]
    if not values:
        return "–"
    middle = form.format(statistics.mean(values))
    return f"{middle} ± {form.format(statistics.stdev(values))}" if len(values) > 1 else middle


def _chosen(rows: Sequence[Row], stage: str) -> str:
    """Returns the candidates that a stage of some runs has chosen, each once."""
    return ", ".join(dict.fromkeys(_words(row[f"{stage}/chosen"]) for row in rows if f"{stage}/chosen" in row)) or "–"


def _of_first(row: Row, column: str) -> str:
    value = row.get(column)
    return "–" if value is None else f"{value:,}" if column == "parameters" else f"{value:.3g}"
