"""The metrics of runs, from their `metrics.jsonl`, as a table and as a figure."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vit_jax import figures
from vit_jax.errors import UserError
from vit_jax.training.metrics_file import FILE, all_values

_USUAL = ("*/loss", "*/accuracy", "train/learning_rate")  # what is plotted by default, as far as it is there
_STYLES = ("-", "--", ":", "-.")
_PANELS = 3  # in a row

Values = dict[int, dict[str, float]]  # of each step, by name


def read_metrics(workdir: epath.PathLike) -> Any:
    """Returns the metrics of a run as a `pandas.DataFrame`, also while it is trained.

    There is one row for each step that was logged, the index is the step, and the columns are the metrics, such as
    `train/loss` and `test/accuracy`. What was not measured at a step is NaN there.

    Args:
        workdir: the run's folder, local or `gs://`.

    Raises:
        UserError: pandas is not installed, or the folder has no metrics.
    """
    try:
        import pandas
    except ImportError as error:
        raise UserError("a table of metrics needs pandas; pip install 'vit_jax[notebook]'") from error
    values = _values(epath.Path(workdir))
    index = pandas.Index(list(values), name="step", dtype="int64")
    columns = {name: [row.get(name, float("nan")) for row in values.values()] for name in _names(values)}
    return pandas.DataFrame(columns, index, dtype="float64")


def plot_metrics(
    workdirs: epath.PathLike | Sequence[epath.PathLike], names: str | Iterable[str] | None = None
) -> Figure:
    """Plots the metrics of one run or of several against the step, and returns the figure.

    Metrics with the same last part, such as `train/loss` and `test/loss`, share a panel. The colours tell the metrics
    of a panel apart, or the runs if there are several; then the styles of the lines tell the metrics apart.

    Args:
        workdirs: the folder of a run, or a list of them, local or `gs://`.
        names: the metrics, by their names or by patterns such as `test/*`; by default losses, accuracies and the
            learning rate.

    Raises:
        UserError: a folder has no metrics, or no run has a metric of one of the names.
    """
    several = isinstance(workdirs, Iterable) and not isinstance(workdirs, str | epath.Path)
    folders = [epath.Path(folder) for folder in (workdirs if several else [workdirs])]
    if not folders:
        raise UserError("plot_metrics got no folder; name at least one run's")
    runs = dict(zip(_labels(folders), map(_values, folders), strict=True))
    panels: dict[str, list[str]] = {}
    for name in _chosen(runs, names):
        panels.setdefault(name.rpartition("/")[2], []).append(name)
    with figures.style():
        columns = min(_PANELS, len(panels))
        rows = -(-len(panels) // columns)
        figure = figures.new(figures.COLUMN_INCHES * columns, 2.5 * rows)
        for number, (kind, members) in enumerate(panels.items(), 1):
            title = kind if len(members) > 1 else members[0]
            _panel(figure.add_subplot(rows, columns, number), title, members, runs)
    return figure


def _panel(axes: Axes, title: str, names: list[str], runs: Mapping[str, Values]) -> None:
    for number, (run, values) in enumerate(runs.items()):
        for kind, name in enumerate(names):
            points = [(step, row[name]) for step, row in values.items() if name in row]
            colour = figures.COLOURS[(number if len(runs) > 1 else kind) % len(figures.COLOURS)]
            style = _STYLES[kind % len(_STYLES)] if len(runs) > 1 else "-"
            parts = [run] if len(runs) > 1 else []
            parts += [name.rpartition("/")[0]] if len(names) > 1 else []
            marker = "o" if len(points) < 10 else ""
            if points:
                axes.plot(
                    *zip(*points, strict=True), color=colour, ls=style, marker=marker, ms=2.5, label=" ".join(parts)
                )
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_title(title)
    if len(runs) > 1 or len(names) > 1:
        axes.legend()


def _values(folder: epath.Path) -> Values:
    """Returns the metrics of a run. Raises UserError if it has none."""
    folder = folder.expanduser()
    if values := all_values(folder, warn=True):
        return values
    if not folder.exists():
        raise UserError(f"there is no folder {folder}; check the name")
    if (folder / "config.json").exists():
        raise UserError(f"the run in {folder} has no metrics yet; wait until it has made config.log_steps steps")
    raise UserError(f"{folder} has no {FILE}, so it is no run's folder; give the workdir of a training")


def _names(values: Values) -> list[str]:
    """Returns the names of the metrics, in the order in which they appear."""
    return list(dict.fromkeys(name for row in values.values() for name in row))


def _chosen(runs: Mapping[str, Values], names: str | Iterable[str] | None) -> list[str]:
    """Returns the names of the metrics to plot. Raises UserError if a name or pattern fits none of them."""
    there = list(dict.fromkeys(name for values in runs.values() for name in _names(values)))
    patterns = list(_USUAL) if names is None else [names] if isinstance(names, str) else list(names)
    chosen: list[str] = []
    for pattern in patterns:
        found = [name for name in there if fnmatch.fnmatchcase(name, pattern)]
        if not found and names is not None:
            raise UserError(f"there is no metric {pattern!r}; there are {', '.join(there)}")
        chosen += found
    if not chosen:
        raise UserError(f"plot_metrics got no names; give some of {', '.join(there)}")
    return list(dict.fromkeys(chosen))


def _labels(folders: Sequence[epath.Path]) -> list[str]:
    """Returns the names of the folders, or their paths if two have the same name."""
    names = [folder.name for folder in folders]
    labels = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    if len(set(labels)) < len(labels):
        raise UserError(f"plot_metrics got the folder {max(labels, key=labels.count)} twice; name each once")
    return labels
