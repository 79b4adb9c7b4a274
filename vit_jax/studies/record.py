"""The files of a study: `runs/RUN/STAGE/` (the folder of a training), `runs/RUN/result.json` and `study.json`.

`result.json` is written when the last stage of a run is complete. It holds what each stage found and the config that it
found it with. `study.json` is assembled from these files and can be made anew at any time. Reading them imports no JAX.
"""

import dataclasses
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from etils import epath

import vit_jax
from vit_jax import config as config_lib
from vit_jax import data
from vit_jax.checkpoints import files
from vit_jax.errors import UserError
from vit_jax.studies import table
from vit_jax.studies.spec import FREE, Best, Run, Stage, Study, Training, configs

FORMAT_VERSION = 1
RESULT, STUDY = "result.json", "study.json"
DONE, IN_PART, MISSING = "done", "in part", "missing"
_LOG = logging.getLogger(__name__)

Result = dict[str, Any]  # the content of a result.json


def absolute(workdir: epath.Path) -> epath.Path:
    """Returns the folder of a study as an absolute path, so that its runs go on from any working directory."""
    return workdir if "://" in str(workdir) else workdir.expanduser().resolve()


def folder_of(workdir: epath.Path, run: Run) -> epath.Path:
    """Returns the folder of a run."""
    return workdir / "runs" / run.name


def results(workdir: epath.Path, study: Study) -> dict[str, Result]:
    """Returns the results of the runs that are complete, by name.

    Raises:
        UserError: the folder holds another study, a result is damaged, or a run was made with another config than the
            study has now, also a run that is not complete.
    """
    _check_study_file(workdir, study)
    found = {}
    for run in study.runs:
        folder = folder_of(workdir, run)
        result = _read(folder / RESULT, run)
        if result is not None:
            if result["stages"].keys() != {stage.name for stage in run.stages}:
                raise UserError(
                    f"{folder} has results of the stages {', '.join(result['stages'])}, and the study now has "
                    f"{', '.join(stage.name for stage in run.stages)}; take another --workdir"
                )
            found[run.name] = result
            made = {stage.name: result["stages"].get(stage.name) for stage in run.stages}
        else:
            made = {stage.name: of_training(folder / stage.name) for stage in run.stages}
        for stage in run.stages:
            if different := _differences(made[stage.name], stage):
                raise UserError(
                    f"{folder} holds results of another {stage.name}, take another --workdir: {'; '.join(different)}"
                )
    return found


def states(workdir: epath.Path, study: Study, found: Mapping[str, Result]) -> dict[str, str]:
    """Returns for each run whether it is DONE, IN_PART or MISSING."""
    begun = {run.name for run in study.runs if folder_of(workdir, run).exists()}
    return {run.name: DONE if run.name in found else IN_PART if run.name in begun else MISSING for run in study.runs}


def strangers(workdir: epath.Path, study: Study) -> list[str]:
    """Returns the names of the folders in `runs/` that belong to no run of the study."""
    folder, known = workdir / "runs", {run.name for run in study.runs}
    return sorted(path.name for path in folder.iterdir() if path.name not in known) if folder.exists() else []


def check_data(study: Study, found: Mapping[str, Result]) -> None:
    """Raises UserError if runs that are complete were trained on other data than a missing one would be now.

    The images of each data set are listed once, and none is read.
    """
    known: dict[str, tuple[str, Any]] = {}
    for run in study.runs:
        for stage in run.stages:
            made = found[run.name]["stages"][stage.name] if run.name in found else {}
            if made.get("data"):
                known.setdefault(_data_key(configs(stage)[made.get("chosen", "")]), (run.name, made["data"]))
    missing = [(run, stage) for run in study.runs if run.name not in found for stage in run.stages]
    compared = set()
    for run, config in ((run, config) for run, stage in missing for config in configs(stage).values()):
        key = _data_key(config)
        if key in compared or key not in known:
            continue
        compared.add(key)
        name, before = known[key]
        now = data.describe(config)
        # How many images of the parts are drawn may differ from run to run.
        if different := data.differences({**before, "num_examples": now["num_examples"]}, now):
            raise UserError(
                f"{name} was trained on other data than {run.name} would be: {'; '.join(different)}; put the data "
                "back as they were, or take another --workdir"
            )


def _data_key(config: config_lib.Config) -> str:
    return repr([getattr(config.data, key) for key in ("name", "split", "data_dir", "classes", "max_labels")])


def write_result(workdir: epath.Path, run: Run, stages: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes the result of a run whose stages are all complete; `stages` are what `execute` returns of each."""
    folder = folder_of(workdir, run)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"format_version": FORMAT_VERSION, "version": vit_jax.__version__, "name": run.name}
    files.write_json(folder / RESULT, {**record, "axes": dict(run.axes), "stages": dict(stages)})


def description(stage: Stage, candidate: str = "") -> dict[str, Any]:
    """Returns what tells a stage from others of its name, as JSON: its kind, its settings and its config.

    Of a `Best`, the config is that of the candidate that was chosen.
    """
    described = {**_settings(stage), "config": _plain(dataclasses.asdict(configs(stage)[candidate]))}
    return {**described, "chosen": candidate} if isinstance(stage, Best) else described


def _settings(stage: Stage) -> dict[str, Any]:
    """Returns the kind of a stage and its settings, without configs."""
    fields = [field.name for field in dataclasses.fields(stage) if field.name not in ("name", "config", "configs")]
    settings = {name: getattr(stage, name) for name in fields}
    if isinstance(stage, Best):
        settings["candidates"] = [*stage.configs]
    return {"kind": type(stage).__name__, "settings": settings}


def rows(study: Study, found: Mapping[str, Result]) -> list[dict[str, Any]]:
    """Returns the row of each complete run, in the study's order.

    A row has `name`, the axes and the measures of the study; every value of every stage, under STAGE/VALUE; the
    candidate that a `Best` has chosen, under STAGE/chosen; and of the first training `steps`, `parameters`, `exaflops`
    (10^18 floating-point operations of the training) and `curves`: for each of the study's measures of that training,
    the pairs of a step and its value then. `exaflops_total` and `seconds` are sums over all trainings; seconds are
    those of training steps, without the start and the evaluations.
    """
    return [_row(study, run, found[run.name]) for run in study.runs if run.name in found]


def _row(study: Study, run: Run, result: Result) -> dict[str, Any]:
    stages = result["stages"]
    row: dict[str, Any] = {"name": run.name, **run.axes}
    for measure in study.measures:
        values = stages.get(measure.stage, {}).get("values", {})
        if measure.stage in stages and measure.name not in values:
            raise UserError(
                f"{run.name}/{measure.stage} has no measure {measure.name}; it has {', '.join(values) or 'none'}"
            )
        if measure.name in values:
            row[measure.column] = values[measure.name]
    row |= {f"{name}/chosen": made["chosen"] for name, made in stages.items() if "chosen" in made}
    trainings = [stages[stage.name] for stage in run.stages if isinstance(stage, Training | Best)]
    if trainings:
        first = trainings[0]
        row |= {key: first[key] for key in ("steps", "parameters", "exaflops")}
        row["exaflops_total"] = sum(made["exaflops"] for made in trainings)
        row["seconds"] = sum(made["seconds"] for made in trainings)
        of_first = [measure for measure in study.measures if stages.get(measure.stage) is first]
        row["curves"] = {measure.column: first["curves"].get(measure.name, []) for measure in of_first}
    return row | {f"{stage}/{key}": value for stage, made in stages.items() for key, value in made["values"].items()}


def write_study(workdir: epath.Path, study: Study, found: Mapping[str, Result]) -> list[dict[str, Any]]:
    """Writes study.json, and returns its rows."""
    made = rows(study, found)
    missing = [run.name for run in study.runs if run.name not in found]
    value = {"format_version": FORMAT_VERSION, "version": vit_jax.__version__, "study": study.name}
    value |= {"runs": made, "missing": missing, "means": table.means(study, made)}
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(workdir / STUDY, value, shared=True)  # several machines may make runs of the same study at once
    return made


def _check_study_file(workdir: epath.Path, study: Study) -> None:
    """Raises UserError if the folder is that of one run or of another study."""
    if (workdir / "config.json").exists():
        raise UserError(f"the workdir {workdir} is the folder of a single run; name another one")
    path = workdir / STUDY
    if not path.exists():
        return
    there = files.read_json(path)
    if not isinstance(there, dict) or not isinstance(there.get("runs"), list) or "study" not in there:
        raise UserError(f"{path} is no study's; move it away or name another --workdir")
    if there["study"] != study.name:
        raise UserError(f"{workdir} holds the study {there['study']}, and not {study.name}; name another --workdir")


def _read(path: epath.Path, run: Run) -> Result | None:
    """Returns the result in a file, or None if there is none. Raises UserError if it is damaged or another run's."""
    if not path.exists():
        return None
    found = files.read_json(path)
    try:
        newer = found["format_version"] > FORMAT_VERSION
        whole = all(map(_is_whole, found["stages"].values()))
        theirs = found["name"], found["axes"]
    except (KeyError, TypeError, AttributeError):
        newer = whole = False
    if newer:
        raise UserError(f"{path} was written by a newer vit_jax; update this one or take another --workdir")
    if not whole:
        raise UserError(f"{path} is no result of a run; restore it, or move it away to have it made anew")
    if theirs != (run.name, dict(run.axes)):
        raise UserError(f"{path} is the result of another run, {theirs[0]} at {theirs[1]}; take another --workdir")
    return found


def _is_whole(made: Mapping[str, Any]) -> bool:
    """Returns whether the entry of a stage in `result.json` has values of the right types that fit together.

    Raises KeyError if a key is missing that is read later.
    """
    numbers = [made[key] for key in ("steps", "parameters", "exaflops", "seconds")] if "curves" in made else []
    dicts = [made[key] for key in ("settings", "config", "values")] + [made.get("curves", {})]
    best = made["kind"] == Best.__name__
    return (
        (best or made["kind"] == Training.__name__) == ("curves" in made)
        and best == isinstance(made.get("chosen"), str)
        and all(isinstance(value, dict) for value in dicts)
        and all(isinstance(value, int | float) for value in numbers)
    )


def of_training(folder: epath.Path) -> dict[str, Any] | None:
    """Returns the config and the data that a training has recorded in its folder, or None if it has not begun."""
    path = folder / "config.json"
    if not path.exists():
        return None
    found = files.read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        raise UserError(f"{path} does not describe a run; restore it or move it away")
    return {"config": found["config"], "data": found.get("data")}


def _differences(made: Mapping[str, Any] | None, stage: Stage) -> list[str]:
    """Returns a phrase for each difference between a stage as it was made and as it would be made now.

    Args:
        made: its entry in `result.json`, what `of_training` returns, or None.
        stage: as it is now.
    """
    if made is None:
        return []
    now = _settings(stage).items()
    found = [f"{key} was {made[key]} and is {value}" for key, value in now if made.get(key, value) != value]
    if found:
        return found
    # Which candidate a training that has only begun has chosen is not recorded: it is the one that fits best.
    names = [made["chosen"]] if "chosen" in made else configs(stage)
    return min((_of_config(made, stage, configs(stage)[name]) for name in names), key=len)


def _of_config(made: Mapping[str, Any], stage: Stage, config: config_lib.Config) -> list[str]:
    if isinstance(stage, Training | Best):
        config = data.resolved(config, made.get("data"))
        if stage.starts_from:  # the model that it starts from is the run's own, wherever its folder was then
            config = dataclasses.replace(config, init_from=made["config"].get("init_from"))
    return config_lib.differences(made["config"], config, FREE)


def _plain(value: Any) -> Any:
    """Returns `value` as it is after writing it to JSON and reading it again."""
    return json.loads(json.dumps(value))


def say_strangers(names: Sequence[str] | Iterable[str], workdir: epath.Path) -> None:
    """Logs the folders that belong to no run of the study."""
    if names := list(names):
        _LOG.info(
            "%s has %d runs that are not in the study and are left out: %s", workdir, len(names), ", ".join(names)
        )
