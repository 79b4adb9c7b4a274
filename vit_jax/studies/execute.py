"""Makes the runs of a study that are missing, one after another.

Each training stage is an ordinary run in a folder of its own, so that a stage that was stopped or killed goes on where
it was, bit for bit.
"""

import contextlib
import dataclasses
import logging
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import jax
from etils import epath
from jax.experimental.compilation_cache import compilation_cache

from vit_jax.checkpoints import files
from vit_jax.checkpoints.store import FOLDER
from vit_jax.errors import UserError
from vit_jax.studies import choosing, measuring, record, table, trained
from vit_jax.studies.spec import Best, LargestBatch, Run, Speed, Stage, Study, Training
from vit_jax.training import loop, run_folder
from vit_jax.training.hosts import Hosts

_LOG = logging.getLogger(__name__)


def make(workdir: epath.Path, study: Study, wanted: Sequence[Run], watch_seconds: float) -> dict[str, record.Result]:
    """Makes those of the wanted runs that are missing, and returns the results of all that are complete.

    After each run, `study.json` is written.

    Raises:
        UserError: what is wrong with the folder or with a run; the runs before it are kept.
        SystemExit: code 143, after SIGTERM; a training is saved.
        KeyboardInterrupt: after Ctrl-C; a training is saved.
    """
    found = record.results(workdir, study)
    missing = [run for run in wanted if run.name not in found]
    with Hosts(watch_seconds) as hosts:
        hosts.require_same("what the study's folder holds", sorted(found), run_folder.SHARE)
    if jax.process_index() == 0:
        record.say_strangers(record.strangers(workdir, study), workdir)
    record.check_data(study, found)
    _check_devices(study, found, missing)
    begin, done = time.monotonic(), sum(run.name in found for run in wanted)
    with _signals(), _compiled_once():
        for number, run in enumerate(missing, 1):
            since = time.monotonic()
            stages: dict[str, dict[str, Any]] = {}
            for stage in run.stages:
                with _named(run, stage):
                    stages[stage.name] = _made(workdir, run, stage, stages, watch_seconds)
            if jax.process_index() == 0:
                with run_folder.writing(workdir):
                    record.write_result(workdir, run, stages)
                    found = record.results(workdir, study)  # also what other machines have made meanwhile
                    rows = record.write_study(workdir, study, found)
                row = next(row for row in rows if row["name"] == run.name)
                left = (time.monotonic() - begin) / number * (len(missing) - number)
                _LOG.info(
                    "%d of %d: %s: %s in %.0f s%s",
                    done + number,
                    len(wanted),
                    run.title,
                    _headline(study, row),
                    time.monotonic() - since,
                    f"; about {_time(left)} left" if number < len(missing) else "",
                )
    return found


def draw(workdir: epath.Path, study: Study) -> None:
    """Writes study.json, table.md and the figures of all runs that are complete, in the first process."""
    if jax.process_index() != 0:
        return
    from vit_jax import figures
    from vit_jax.studies import figures as drawing

    with run_folder.writing(workdir):
        rows = record.write_study(workdir, study, record.results(workdir, study))
        if not rows:
            return
        with files.replacing(workdir / "table.md", shared=True) as temporary:
            temporary.write_text(table.markdown(study, rows))
        for figure in study.figures:
            canvas = drawing.draw(figure, study.axes, rows)
            if canvas is None:
                _LOG.info("no run has what the figure %s shows", figure.name)
                continue
            written = figures.save(canvas, workdir / figure.name)
            _LOG.info("wrote %s", " and ".join(map(str, written)))


@contextlib.contextmanager
def _named(run: Run, stage: Stage) -> Iterator[None]:
    """Says in an error which run of the study it ends."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{run.name}, {stage.name}: {error}") from error


def _headline(study: Study, row: dict[str, Any]) -> str:
    measure = next((m for m in study.measures if m.column in row), study.measures[0])
    value = row.get(measure.column)
    if value is None:
        return "done"
    return f"{measure.column.replace('_', ' ')} " + (f"{100 * value:.1f} %" if measure.percent else f"{value:,.4g}")


def _time(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


@contextlib.contextmanager
def _compiled_once() -> Iterator[None]:
    """Keeps compiled programs during the study, because runs that differ only in their images have the same programs.

    They are kept in a temporary folder, and not with the study, because programs for one CPU may not run on another.
    Changes nothing if the user has chosen a folder for them (JAX_COMPILATION_CACHE_DIR).
    """
    names = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = [getattr(jax.config, name) for name in names]
    if before[0] or jax.process_count() > 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="vit_jax_study_") as folder:
        for name, value in zip(names, (folder, 0.5), strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        try:
            yield
        finally:
            for name, value in zip(names, before, strict=True):
                jax.config.update(name, value)
            compilation_cache.reset_cache()


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Ends the study at SIGTERM and Ctrl-C between two stages; during a stage, the training saves and ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _made(
    workdir: epath.Path, run: Run, stage: Stage, earlier: Mapping[str, Mapping[str, Any]], watch_seconds: float
) -> dict[str, Any]:
    """Makes a stage, if it is not complete, and returns what `result.json` keeps of it.

    Args:
        workdir: the study's folder.
        run: the run that the stage belongs to.
        stage: which stage.
        earlier: what this function has returned for the earlier stages of the run, by name.
        watch_seconds: as in `make`.
    """
    if isinstance(stage, Speed | LargestBatch):
        return {**record.description(stage), **measuring.measured(stage)}
    chosen, training = "", stage
    if isinstance(stage, Best):
        chosen = choosing.best(stage, {name: made["values"] for name, made in earlier.items()})
        training = stage.training(chosen)
        _LOG.info("%s: %s has the best %s", run.name, chosen, stage.measure)
    assert isinstance(training, Training)
    folder = record.folder_of(workdir, run) / stage.name
    _train(run, training, folder, watch_seconds)
    return {**record.description(stage, chosen), **trained.result(folder)}


def _train(run: Run, stage: Training, folder: epath.Path, watch_seconds: float) -> None:
    config = stage.config
    if stage.starts_from:
        config = dataclasses.replace(config, init_from=_start_of(folder, stage))
    if config.wandb.project and config.wandb.name is None:
        config = dataclasses.replace(config, wandb=dataclasses.replace(config.wandb, name=f"{run.name}/{stage.name}"))
    loop.train(config, folder, watch_seconds=watch_seconds)


def _start_of(folder: epath.Path, stage: Training) -> str:
    """Returns the folder of the model that a stage starts from.

    If the study was moved after the stage had saved a checkpoint, this is the old place: the stage has recorded it, and
    does not read that model again.
    """
    recorded = record.of_training(folder)
    if recorded and (folder / FOLDER).exists():
        return recorded["config"]["init_from"]
    return str(folder.parent / stage.starts_from)


def _check_devices(study: Study, found: dict[str, record.Result], missing: Sequence[Run]) -> None:
    """Raises UserError if speeds are missing, and others were measured on other devices than those at hand."""
    if not any(isinstance(stage, Speed) for run in missing for stage in run.stages):
        return
    for run in study.runs:
        for stage in run.stages if run.name in found else ():
            before = found[run.name]["stages"][stage.name].get("devices")
            if isinstance(stage, Speed) and before != measuring.devices():
                raise UserError(
                    f"{run.name} was measured on {before}, and these devices are {measuring.devices()}; take another "
                    "--workdir"
                )
