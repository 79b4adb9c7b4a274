"""What a study is: runs, each of one or more stages, and what is read and drawn of them. Nothing here is executed.

The function `get_study` of a config file returns a `Study`; `checks.py` checks it and applies the user's overrides.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vit_jax import config as config_lib
from vit_jax.errors import UserError

# Columns of a result that are not axes and not measures; `record.py` says what they are.
COLUMNS = ("name", "steps", "exaflops", "exaflops_total", "parameters", "seconds", "curves")
MEAN_COLUMNS = ("over", "runs")  # those of a mean over runs, beside axes and measures
# Keys that do not change the results of a run. Evaluations may change while a single run goes on, but the results of a
# study must all come from the same ones.
FREE = tuple(key for key in config_lib.FREE_ON_RESUME if key != "evaluations")

Value = str | int | float


@dataclasses.dataclass(frozen=True)
class Training:
    """A stage that trains, in an ordinary run's folder.

    Attributes:
        name: the stage's name and its folder's.
        config: as `get_config` of a config file returns it; a typed `Config` after `checked`.
        starts_from: the name of an earlier stage of the run, whose model is `init_from`; "" for none.
    """

    name: str
    config: Any
    starts_from: str = ""


@dataclasses.dataclass(frozen=True)
class Best:
    """A stage that trains once more, with the config that belongs to the best of some earlier trainings of the run.

    For example, the candidates train at several learning rates without the images that are held out, which judge them,
    and this stage trains at the best of these rates on all images.

    Attributes:
        name: the stage's name and its folder's.
        configs: for each candidate, the name of an earlier training, the config that is trained if it is the best.
        measure: what the candidates are judged by, such as held_out/accuracy, at their last step.
        least: whether the lowest value is the best, as for a loss. The first of equal candidates is taken.
        starts_from: as in `Training`.
    """

    name: str
    configs: Mapping[str, Any]
    measure: str
    least: bool = False
    starts_from: str = ""

    def training(self, candidate: str) -> Training:
        """Returns what is trained if this candidate is the best."""
        return Training(self.name, self.configs[candidate], self.starts_from)


@dataclasses.dataclass(frozen=True)
class Speed:
    """A stage that measures how many images a second the model of a config classifies on the devices at hand."""

    name: str
    config: Any
    seconds: float = 1.0  # of measuring, after the compilation


@dataclasses.dataclass(frozen=True)
class LargestBatch:
    """A stage that finds the largest training batch that fits on a TPU slice, by its compiler (`vit_jax.plan`)."""

    name: str
    config: Any
    topology: str  # such as v3:2x2


Stage = Training | Best | Speed | LargestBatch


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a study: its name, which is also that of its folder, its place on each axis, and its stages."""

    name: str
    axes: Mapping[str, Value]
    stages: tuple[Stage, ...]

    @property
    def title(self) -> str:
        """The run in words, such as `ViT, examples 1,000, seed 0`."""
        return ", ".join(axis_value(key, value) for key, value in self.axes.items())


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number that a stage measures, which becomes a column of the results."""

    column: str  # such as accuracy
    stage: str
    name: str  # such as test/accuracy
    percent: bool = True  # whether it is a share, which is shown in percent


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis of a figure."""

    column: str
    label: str  # with its unit
    log: bool = False
    percent: bool = False  # whether values from 0 to 1 are drawn as percent


@dataclasses.dataclass(frozen=True)
class Figure:
    """A line plot: one line for each value of an axis, the mean and the standard deviation over another.

    Attributes:
        name: the file's name without its suffix, such as accuracy_by_examples.
        x: its values come from an axis or another column of the results.
        y: a measure.
        lines: the axis whose values are the lines.
        over: the axis whose values are averaged over.
        statistic: `mean` with the standard deviation, or `median` with the smallest and the largest value.
        where: only the runs with these values of other axes are drawn.
        origin: a value of `lines` whose only point begins every line, and that has no line of its own.
        along: draw every evaluation during the training and not only the last; x must be exaflops or steps.
    """

    name: str
    x: Axis
    y: Axis
    lines: str = "model"
    over: str = "seed"
    statistic: str = "mean"
    where: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    origin: str = ""
    along: bool = False


@dataclasses.dataclass(frozen=True)
class Study:
    """Runs with the same axes, and what is read and drawn of them.

    Attributes:
        name: of the study, such as data_size.
        runs: in the order in which they are made.
        measures: the first is what the log says of a finished run.
        figures: what is drawn.
        over: the axis that the table averages over; the study may lack the axis `seed`.
        means: axes over which means are taken, too. Each entry gives one mean for every place on the other axes: with
            the axes group, task and seed, `("task",)` gives the mean of each group's tasks, and `("group", "task")`
            that of all tasks.
    """

    name: str
    runs: tuple[Run, ...]
    measures: tuple[Measure, ...]
    figures: tuple[Figure, ...] = ()
    over: str = "seed"
    means: tuple[tuple[str, ...], ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes of all runs."""
        return tuple(self.runs[0].axes)


def run_at(axes: Mapping[str, Value], *stages: Stage) -> Run:
    """Returns the run at a place on each axis. Its name is made of the values, such as `ViT-examples1000-seed0`."""
    return Run("-".join(_slug(key, value) for key, value in axes.items()), axes, stages)


def _slug(key: str, value: Value) -> str:
    text = value if isinstance(value, str) else f"{key}{value:g}" if isinstance(value, float) else f"{key}{value}"
    return re.sub(r"[^A-Za-z0-9.+_-]+", "_", text)


def axis_value(key: str, value: Value) -> str:
    """Returns a value of an axis in words: a text as it is, a number with the name of the axis."""
    return value if isinstance(value, str) else f"{key.replace('_', ' ')} {number(value)}"


def number(value: int | float) -> str:
    """Returns a number as text, with commas if it is an integer."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def configs(stage: Stage) -> Mapping[str, Any]:
    """Returns the configs that a stage may have, by candidate; those of most stages have one, under ""."""
    return stage.configs if isinstance(stage, Best) else {"": stage.config}


def chosen(study: Study, names: Sequence[str]) -> tuple[Run, ...]:
    """Returns the runs with these names, or all if there are none. Raises UserError if there is no such run."""
    known = {run.name: run for run in study.runs}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"the nearest is {near[0]}" if near else "--list prints the names"
            raise UserError(f"the study {study.name} has no run {name!r}; {hint}")
    return tuple(run for run in study.runs if not names or run.name in names)


def groups(rows: Iterable[Mapping[str, Any]], axes: Sequence[str]) -> dict[tuple, list[Mapping[str, Any]]]:
    """Returns the rows of results by their values on some axes, in the order in which these first occur."""
    found: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[axis] for axis in axes), []).append(row)
    return found
