"""What a study is: runs, each of one or more stages, and what is read and drawn of them. Nothing here is executed.

The function `get_study` of a config file returns a `Study`; `checked` checks it and applies the user's overrides.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.errors import UserError

# Columns of a result that are not axes and not measures; `record.py` says what they are.
COLUMNS = ("name", "steps", "exaflops", "exaflops_total", "parameters", "seconds", "curves")
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


Stage = Training | Speed | LargestBatch


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
    """

    name: str
    runs: tuple[Run, ...]
    measures: tuple[Measure, ...]
    figures: tuple[Figure, ...] = ()
    over: str = "seed"

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


def checked(study: Any, path: str, overrides: Sequence[tuple[str, Any]] = ()) -> Study:
    """Returns the study with typed configs and the overrides applied to the config of every stage.

    Args:
        study: what `get_study` of a config file returned.
        path: of that file, for messages.
        overrides: pairs of a dotted key and its value.

    Raises:
        UserError: it is no study, names are not unique or can't be those of folders, a config is wrong, an override
            sets a key that the study sets to several values, or a measure, a figure or a stage refers to nothing.
    """
    if not isinstance(study, Study):
        raise UserError(f"get_study() of {path} gives no study; let it return a vit_jax.studies.Study")
    _check_names(study, path)
    _check_references(study, path)
    for key, _ in overrides:
        _check_override(study, key)

    def typed(stage: Stage) -> Stage:
        config = stage.config
        if not isinstance(config, config_lib.Config):
            config, _ = config_file.overridden(config, overrides)
        elif overrides:
            raise UserError(
                f"--config.{overrides[0][0]} can't be set, because {path} gives typed configs; let it take them from "
                "vit_jax.config_file.section"
            )
        return dataclasses.replace(stage, config=config)

    runs = tuple(dataclasses.replace(run, stages=tuple(map(typed, run.stages))) for run in study.runs)
    study = dataclasses.replace(study, runs=runs)
    _check_measures(study, path)
    return study


def chosen(study: Study, names: Sequence[str]) -> tuple[Run, ...]:
    """Returns the runs with these names, or all if there are none. Raises UserError if there is no such run."""
    known = {run.name: run for run in study.runs}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"the nearest is {near[0]}" if near else "--list prints the names"
            raise UserError(f"the study {study.name} has no run {name!r}; {hint}")
    return tuple(run for run in study.runs if not names or run.name in names)


def _check_names(study: Study, path: str) -> None:
    if not study.runs:
        raise UserError(f"the study of {path} has no runs; let get_study() return some")
    seen: set[str] = set()
    for run in study.runs:
        folders = [run.name, *(stage.name for stage in run.stages)]
        for name in folders:
            if not re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9.+_-]*", name):
                raise UserError(f"{path} names a run or a stage {name!r}, which can't be a folder's name; rename it")
        if run.name.lower() in seen:  # some disks do not tell the case of letters apart
            raise UserError(f"{path} has two runs of the name {run.name}; give each its own axes or name")
        if not run.stages or len(set(folders[1:])) < len(folders[1:]):
            raise UserError(f"{path}: the run {run.name} needs stages of different names; it has {folders[1:]}")
        if run.axes.keys() != study.runs[0].axes.keys():
            raise UserError(f"{path}: the runs {study.runs[0].name} and {run.name} have other axes; give all the same")
        seen.add(run.name.lower())


def _check_references(study: Study, path: str) -> None:
    """Raises UserError if a measure, a figure or a stage refers to something that the study does not have."""
    axes, stages = study.axes, {stage.name for run in study.runs for stage in run.stages}
    columns = [measure.column for measure in study.measures]
    if not columns:
        raise UserError(f"the study of {path} has no measures; name what its runs are judged by")
    taken = [*axes, *columns, *COLUMNS]
    for name in taken:
        if taken.count(name) > 1:
            raise UserError(f"{path} gives two columns the name {name!r}; rename an axis or a measure")
    for measure in study.measures:
        if measure.stage not in stages:
            raise UserError(
                f"{path}: the measure {measure.column} is of the stage {measure.stage!r}, which is no stage"
            )
    if study.over not in (*axes, "seed"):
        raise UserError(f"{path}: the table averages over {study.over!r}; the axes are {', '.join(axes)}")
    for figure in study.figures:
        _check_figure(figure, axes, columns, path)
    names = [figure.name for figure in study.figures]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path} has two figures of the name {twice[0]}; rename one")
    for run in study.runs:
        earlier: list[str] = []
        for stage in run.stages:
            if isinstance(stage, Training) and stage.starts_from and stage.starts_from not in earlier:
                raise UserError(f"{path}: {run.name}/{stage.name} starts from {stage.starts_from!r}, no earlier stage")
            earlier += [stage.name] if isinstance(stage, Training) else []


def _check_figure(figure: Figure, axes: Sequence[str], measures: Sequence[str], path: str) -> None:
    """Raises UserError if a figure can't be drawn from results with these axes and measures."""
    numbers = [column for column in COLUMNS if column not in ("name", "curves")]
    lines = [axis for axis in axes if axis != figure.over]
    for what, name, allowed in (
        ("x", figure.x.column, ("exaflops", "steps") if figure.along else (*lines, *measures, *numbers)),
        ("y", figure.y.column, measures if figure.along else (*measures, *numbers)),
        ("lines", figure.lines, lines),
        ("over", figure.over, (*axes, "seed")),
        ("statistic", figure.statistic, ("mean", "median")),
        *(("where", name, axes) for name in figure.where),
    ):
        if name not in allowed:
            raise UserError(f"{path}: the figure {figure.name} has {what}={name!r}; it can be {', '.join(allowed)}")


def _check_measures(study: Study, path: str) -> None:
    """Raises UserError if a measure of a training is of none of its evaluations; the configs are typed."""
    for run, stage in _stages(study):
        for measure in study.measures:
            if measure.stage != stage.name or not isinstance(stage, Training):
                continue
            known = [*stage.config.evaluations, "train"]
            if measure.name.partition("/")[0] not in known:
                raise UserError(
                    f"{path}: {run.name}/{stage.name} has no evaluation for the measure {measure.name}; it has "
                    f"{', '.join(known)}"
                )


def _check_override(study: Study, key: str) -> None:
    """Raises UserError if the stages of the study have several values at a key, or not all have the key.

    Keys that do not change the result may always be set.
    """
    if f"{key}.".startswith(tuple(f"{free}." for free in FREE)):
        return
    if key == "init_from" and any(isinstance(s, Training) and s.starts_from for _, s in _stages(study)):
        raise UserError("config.init_from is set by the study itself, where a stage starts from another; leave it out")
    found: dict[str, str] = {}
    for run, stage in _stages(study):
        flat = config_lib.flatten(
            stage.config.to_dict() if not dataclasses.is_dataclass(stage.config) else stage.config
        )
        where = f"{run.name}/{stage.name}"
        siblings = _siblings(key)
        if not any(sibling in flat for sibling in siblings):
            raise UserError(
                f"{where} has no config.{key}, so it can't be set in all runs; change it in the study's file"
            )
        # A duration in one unit replaces that in another, so all its units count.
        found.setdefault(repr([flat.get(sibling) for sibling in siblings]), where)
    if len(found) > 1:
        one, other = list(found.values())[:2]
        raise UserError(
            f"the study {study.name} gives config.{key} several values itself, as in {one} and {other}; change it in "
            "the study's file"
        )


def _siblings(key: str) -> list[str]:
    stem, _, unit = key.rpartition("_")
    return [f"{stem}_{other}" for other in config_lib.UNITS] if unit in config_lib.UNITS and stem else [key]


def _stages(study: Study) -> Iterator[tuple[Run, Stage]]:
    for run in study.runs:
        for stage in run.stages:
            yield run, stage


def groups(rows: Iterable[Mapping[str, Any]], axes: Sequence[str]) -> dict[tuple, list[Mapping[str, Any]]]:
    """Returns the rows of results by their values on some axes, in the order in which these first occur."""
    found: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[axis] for axis in axes), []).append(row)
    return found
