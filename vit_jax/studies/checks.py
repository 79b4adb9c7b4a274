"""Checks what a study's file gives, and applies the user's overrides, before anything is made."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.errors import UserError
from vit_jax.studies.spec import COLUMNS, FREE, MEAN_COLUMNS, Best, Figure, Run, Stage, Study, Training, configs


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

    def typed(config: Any) -> config_lib.Config:
        if not isinstance(config, config_lib.Config):
            return config_file.overridden(config, overrides)[0]
        if overrides:
            raise UserError(
                f"--config.{overrides[0][0]} can't be set, because {path} gives typed configs; let it take them from "
                "vit_jax.config_file.section"
            )
        return config

    def with_types(stage: Stage) -> Stage:
        if isinstance(stage, Best):
            return dataclasses.replace(stage, configs={name: typed(config) for name, config in stage.configs.items()})
        return dataclasses.replace(stage, config=typed(stage.config))

    runs = tuple(dataclasses.replace(run, stages=tuple(map(with_types, run.stages))) for run in study.runs)
    study = dataclasses.replace(study, runs=runs)
    _check_measures(study, path)
    return study


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
    taken = [*axes, *columns, *COLUMNS, *MEAN_COLUMNS]
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
    for mean in study.means:
        if not mean or len(set(mean)) < len(mean) or not {*mean} <= {*axes} - {study.over}:
            free = ", ".join(axis for axis in axes if axis != study.over)
            raise UserError(f"{path}: means are taken over {mean!r}; name one or more of the axes {free}, each once")
    for figure in study.figures:
        _check_figure(figure, axes, columns, path)
    names = [figure.name for figure in study.figures]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path} has two figures of the name {twice[0]}; rename one")
    for run in study.runs:
        earlier: list[str] = []
        for stage in run.stages:
            if isinstance(stage, Training | Best):
                _check_earlier(stage, earlier, f"{path}: {run.name}/{stage.name}")
                earlier.append(stage.name)


def _check_earlier(stage: Training | Best, earlier: Sequence[str], where: str) -> None:
    """Raises UserError if a stage refers to a training that is not among the earlier ones of its run."""
    if stage.starts_from and stage.starts_from not in earlier:
        raise UserError(f"{where} starts from {stage.starts_from!r}, no earlier stage")
    if not isinstance(stage, Best):
        return
    if not stage.configs:
        raise UserError(f"{where} has no candidates; give it a config for each")
    for name in stage.configs:
        if name not in earlier:
            raise UserError(f"{where} has the candidate {name!r}, which is no earlier training of the run")


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
    """Raises UserError if a training lacks the evaluation of a measure; the configs are typed."""
    for run in study.runs:
        trainings = {stage.name: stage for stage in run.stages if isinstance(stage, Training | Best)}
        wanted = [(measure.stage, measure.name) for measure in study.measures]
        for stage in trainings.values():
            wanted += [(name, stage.measure) for name in stage.configs] if isinstance(stage, Best) else []
        for name, measure in wanted:
            if name in trainings:
                _check_measure(measure, trainings[name], f"{path}: {run.name}/{name}")


def _check_measure(name: str, stage: Training | Best, where: str) -> None:
    for config in configs(stage).values():
        known = [*config.evaluations, "train"]
        if name.partition("/")[0] not in known:
            raise UserError(f"{where} has no evaluation for the measure {name}; it has {', '.join(known)}")


def _check_override(study: Study, key: str) -> None:
    """Raises UserError if the stages of the study have several values at a key, or not all have the key.

    Keys that do not change the result may always be set.
    """
    if f"{key}.".startswith(tuple(f"{free}." for free in FREE)):
        return
    if key == "init_from" and any(isinstance(s, Training | Best) and s.starts_from for _, s in _stages(study)):
        raise UserError("config.init_from is set by the study itself, where a stage starts from another; leave it out")
    found: dict[str, str] = {}
    every = (
        (f"{run.name}/{stage.name}", config) for run, stage in _stages(study) for config in configs(stage).values()
    )
    for where, config in every:
        flat = config_lib.flatten(config if dataclasses.is_dataclass(config) else config.to_dict())
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
