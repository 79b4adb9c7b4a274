"""The training loop: the edge where a run reads, writes, evaluates, saves and ends.

The order at start, in one place: the folder's newest whole checkpoint, else `config.init_from`, else scratch.
"""

import contextlib
import dataclasses
import logging
import math
import os
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath

import vit_jax
from vit_jax import chips, data, logs, sharding
from vit_jax import config as config_lib
from vit_jax.checkpoints import files, model_file
from vit_jax.checkpoints.formats import Description
from vit_jax.checkpoints.store import FOLDER, Store
from vit_jax.errors import UserError
from vit_jax.evaluation import make_evaluations
from vit_jax.models import flops, names
from vit_jax.models.model import Model
from vit_jax.models.preprocessed import preprocessed
from vit_jax.training import freeze, identity, metrics, start
from vit_jax.training.hosts import WATCH_SECONDS, Hosts
from vit_jax.training.state import TrainState, abstract_state, create_state, resolve
from vit_jax.training.step import make_step
from vit_jax.training.stop import Stop

FORMAT_VERSION = 1
_NETWORK_DISK_SECONDS = 20.0  # until all hosts see a new file
_LONGER = "to train it for longer, take a new --workdir with --config.init_from={folder} --config.init_head=keep"
_SHARE = "name a --workdir that they share, gs:// or on a common disk"
_LOG = logging.getLogger(__name__)


def train(config: Any, workdir: epath.PathLike, *, watch_seconds: float = WATCH_SECONDS) -> dict[str, float]:
    """Trains a model, or continues to, and leaves it in `workdir` as `model.npz` with `model.json`.

    Of several processes, which `jax.distributed.initialize` has joined, all call it. What one of them raises is shown
    there and ends them all, with code 1.

    Args:
        config: as a config file gives it.
        workdir: the run's folder, local or `gs://`, the same for all processes; made after the first step.
        watch_seconds: one of several processes that gives no sign of life for so long ends the run.

    Returns:
        The last step's metrics; empty where the run was complete before.

    Raises:
        UserError: what is wrong with the config, the data, the folder or the numbers.
        SystemExit: code 143, after SIGTERM and a clean save, or at once before the first step.
        KeyboardInterrupt: after Ctrl-C and a clean save, or at once before the first step or at a second Ctrl-C.
    """
    with logs.shown(), Hosts(watch_seconds) as hosts, Stop(hosts) as stop, data.opened_once():
        if jax.process_count() != hosts.count:
            raise UserError(
                f"there are {jax.process_count()} processes; call jax.distributed.initialize() first in all"
            )
        given = config_lib.typed(config)
        folder, recorded = _checked_folder(workdir)
        complete = (folder / "model.npz").exists()
        mesh = None if complete else _checked_mesh(given, recorded)
        config = resolve(given, recorded.get("data"))
        _check_config(folder, recorded, config)
        hosts.require_same("the config", dataclasses.asdict(given), "give all processes the same command")
        seen = [complete, (folder / "config.json").exists(), (folder / FOLDER).exists()]
        hosts.require_same("the workdir", [str(folder), *seen], _SHARE)
        if mesh is None:
            _LOG.info("this run is complete: %s holds its model.npz; %s", folder, _LONGER.format(folder=folder))
            return {}
        model = start.model_of(config, folder)
        trained_on = identity.checked(config, folder, recorded, hosts)
        return _Run(config, mesh, folder, model, hosts, stop, trained_on).run()


def _checked_folder(workdir: epath.PathLike) -> tuple[epath.Path, dict[str, Any]]:
    """The run's folder, and what its config.json records. Raises a UserError if the folder can't be a run's."""
    folder = epath.Path(workdir)
    if "://" not in str(folder):
        folder = folder.expanduser().resolve()
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        if not nearest.is_dir():
            raise UserError(f"the workdir {folder} can't be a folder, because {nearest} is a file; name another one")
        if not os.access(nearest, os.W_OK):
            raise UserError(f"the workdir {folder} can't be written, because {nearest} can't; name another one")
    path = folder / "config.json"
    if not path.exists():
        for name in (FOLDER, "model.npz"):
            if (folder / name).exists():
                raise UserError(
                    f"the workdir {folder} has {name} but no config.json, so it is no run's; name another one"
                )
        return folder, {}
    recorded = files.read_json(path)
    whole = isinstance(recorded, dict) and isinstance(recorded.get("config"), dict)
    if not whole or ("data" in recorded and not data.is_identity(recorded["data"])):
        raise UserError(f"{path} does not describe a run; restore it or move it away")
    if recorded.get("format_version", 0) > FORMAT_VERSION:
        raise UserError(f"{path} was written by a newer vit_jax; update this one or take another --workdir")
    return folder, recorded


def _checked_mesh(config: config_lib.Config, recorded: dict[str, Any]) -> jax.sharding.Mesh:
    """Returns the mesh, when all that can be checked without the data is right.

    So a wrong name is not hidden by a data set that is missing or takes long. What belongs to a run's start is not
    looked at again when it goes on.

    Raises:
        UserError: the mesh or the batch does not divide; the model, `init_from` or where metrics go is wrong.
    """
    metrics.check(config)
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(mesh, config.global_batch_size, "global_batch_size", config.accumulation_steps)
    if not recorded:
        start.check(config)
    return mesh


def _check_config(folder: epath.Path, recorded: dict[str, Any], config: config_lib.Config) -> None:
    """Raises a UserError if the run in `folder` has another config."""
    if recorded and (different := config_lib.differences(recorded["config"], config)):
        longer = any(text.startswith("config.total_") for text in different)
        raise UserError(
            f"{folder} holds a run of another config, take another --workdir: {'; '.join(different)}"
            + (f"; {_LONGER.format(folder=folder)}" if longer else "")
        )


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """Turns what devices without enough memory raise into one sentence."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(
            "the devices ran out of memory; lower config.global_batch_size, raise config.accumulation_steps or "
            "config.mesh.fsdp, or set config.model.remat=full"
        ) from error


@contextlib.contextmanager
def _writing(folder: epath.Path) -> Iterator[None]:
    """Turns what a full or vanished disk raises into one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(f"the workdir {folder} can't be written ({error}); mend that or name another one") from error


class _Run:
    """One run from its start or its newest checkpoint to its end."""

    def __init__(
        self,
        config: config_lib.Config,
        mesh: jax.sharding.Mesh,
        folder: epath.Path,
        model: Model,
        hosts: Hosts,
        stop: Stop,
        trained_on: data.Identity,
    ):
        self.trained_on = trained_on
        self.config, self.mesh, self.folder, self.model = config, mesh, folder, model
        self.hosts, self.stop = hosts, stop
        self.first_process = jax.process_index() == 0
        self.evaluations = make_evaluations(preprocessed(config, model), model, mesh)
        self.step: Any = make_step(config, model)
        self.store: Store | None = None
        self.writer: metrics.Writer | None = None
        self.pending: list[tuple[int, dict[str, jax.Array]]] = []  # metrics still on the devices
        self.newest: dict[str, float] = {}  # and those of the newest step that is fetched

    def run(self) -> dict[str, float]:
        with contextlib.ExitStack() as closing:  # closes everything, even where closing one thing fails
            try:
                with _memory():
                    return self._run(closing)
            except BaseException as error:
                self.hosts.fail_with(error)  # before anything is closed, which several processes do together
                raise

    def _run(self, closing: contextlib.ExitStack) -> dict[str, float]:
        state, start = self._start(closing)
        for line in sharding.table(state.params, short=self.config.log.parameters == "short").splitlines():
            _LOG.info("%s", line)
        total, size = self.config.total_steps, self.config.global_batch_size
        assert total is not None
        log_steps = min(self.config.log_steps, max(1, total // 10))
        values: dict[str, float] = {}
        rows = sharding.local_rows(self.mesh, size)
        made = data.batches(preprocessed(self.config, self.model), start_step=start, rows=rows)
        batches = closing.enter_context(contextlib.closing(made))
        peak = self._images_at_peak()
        progress = metrics.Progress(start, total, size, first_process=self.first_process, peak=peak)
        closing.enter_context(contextlib.closing(progress))
        put_off = self._evaluated(self._put_off(start), start, state, progress)
        for done in range(start + 1, total + 1):
            batch = sharding.to_devices(next(batches), self.mesh, size)
            if done == start + 1:
                self._compile(state, batch)
            state, outputs = self.step(state, batch)
            self.pending.append((done, outputs))
            if self.writer is None:
                self._check_finite()  # waits for the first step
                self.stop.saves = True
            stop = self.stop.agreed(done)
            if self.writer is None:
                self._open(start, put_off, closing)
            assert self.writer is not None and self.store is not None
            progress.step(done)
            last = done == total
            log = done % log_steps == 0 or last
            save = stop or last or _due(self.config.checkpoint.every_steps, done)
            due = self._evaluations_at(done)
            if not (log or save or due):
                continue
            values = self._check_finite()
            if log:
                values.update(progress.speed(done))
                progress.report(done, values)
            if last or not stop:  # else they could take all the time that is left to save, and come when it goes on
                values.update(self._evaluated(due, done, state, progress))
            if log or due:
                progress.resume(done)
            with _writing(self.folder):
                if log or due:
                    self.writer.write(done, values)
                if save:
                    self.writer.flush()  # so that a checkpoint never is ahead of the metrics
                    self.store.save(done, _items(state))
            if stop and not last:
                self.store.wait()
                progress.say(
                    f"{self.stop.name}: saved step {done} in {self.folder}; the same command goes on from there"
                )
                self.stop.end(done)
        self._finish(state)
        return values

    def _images_at_peak(self) -> float | None:
        """Images a second of all devices at their published peak; None where that is not known, as of CPUs."""
        chip = chips.of_device(jax.devices()[0].device_kind)
        work = flops.step(self.model, 1, freeze.frozen(self.config.optimizer, self.model))
        return jax.device_count() * chip.device_peak / work if chip else None

    def _start(self, closing: contextlib.ExitStack) -> tuple[TrainState, int]:
        """The state to go on from, and its step."""
        if (self.folder / FOLDER).exists():
            store = self._open_store(closing)
            abstract = abstract_state(self.config, self.model, self.mesh)
            if restored := store.restore(_items(abstract)):
                step, items = restored
                _LOG.info("going on from the checkpoint of step %d in %s", step, self.folder)
                whole = abstract.step.sharding
                number = jax.make_array_from_callback((), whole, lambda _: np.int32(step))
                return TrainState(step=number, **items), step
        params = start.initial_params(self.config, self.model)
        return create_state(self.config, self.model, params), 0

    def _compile(self, state: TrainState, batch: dict[str, jax.Array]) -> None:
        """Compiles the step. Several processes do so each at its own pace, and begin it together.

        On CPUs a collective is given up where one process comes to the first of them half a minute after another.
        """
        _LOG.info("compiling the step")
        begin = time.monotonic()
        self.step = self.step.lower(state, batch).compile()
        _LOG.info("compiled in %.0f s", time.monotonic() - begin)
        if self.hosts.count > 1:
            self.hosts.sync("the step is compiled")

    def _open_store(self, closing: contextlib.ExitStack) -> Store:
        store = Store(self.folder / FOLDER, self.config.checkpoint.keep)
        self.store = closing.enter_context(contextlib.closing(store))
        return store

    def _open(self, start: int, put_off: dict[str, float], closing: contextlib.ExitStack) -> None:
        """Makes the folder and what it holds from the beginning; the first step has succeeded.

        `put_off` are measures of the step `start` that were due when the run was stopped.
        """
        with _writing(self.folder):
            if self.first_process:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._write_descriptions()
            self.hosts.sync("the run's folder is made")
            self._check_shared()
            if self.store is None:
                self._open_store(closing)
            writer = metrics.Writer(self.folder, start, self.config, first_process=self.first_process, put_off=put_off)
            self.writer = closing.enter_context(contextlib.closing(writer))

    def _check_shared(self) -> None:
        """Raises UserError where this process does not see what the first one has written."""
        deadline = time.monotonic() + _NETWORK_DISK_SECONDS
        while not (self.folder / "config.json").exists():
            if time.monotonic() > deadline:
                raise UserError(f"{self.folder} was made by process 0 and is not here; {_SHARE}")
            time.sleep(0.5)

    def _write_descriptions(self) -> None:
        devices = {"platform": jax.default_backend(), "kind": jax.devices()[0].device_kind, "count": jax.device_count()}
        record = {
            "format_version": FORMAT_VERSION,
            "version": vit_jax.__version__,
            "devices": {**devices, "processes": jax.process_count()},
            "config": dataclasses.asdict(self.config),
            "data": self.trained_on,
        }
        files.write_json(self.folder / "config.json", record)
        files.write_json(self.folder / "model.json", model_file.describe(self._description()))

    def _description(self) -> Description:
        return Description(self.model.arch, self.model.preprocessing, self.model.class_names)

    def _evaluations_at(self, step: int) -> list[str]:
        """Returns the names of the evaluations that are due after a step."""
        last = step == self.config.total_steps
        return [name for name, s in self.config.evaluations.items() if last or _due(s.every_steps, step)]

    def _put_off(self, start: int) -> list[str]:
        """Returns the names of the evaluations of the step to go on from that were put off when the run was stopped.

        An evaluation that is new in the config is among them.
        """
        if not start:
            return []
        written = metrics.values_of(self.folder, start)
        found = [n for n in self._evaluations_at(start) if not any(key.startswith(f"{n}/") for key in written)]
        self.hosts.require_same("what the metrics hold", found, _SHARE)  # all evaluate the same, or wait for ever
        return found

    def _evaluated(
        self, names_due: list[str], step: int, state: TrainState, progress: metrics.Progress
    ) -> dict[str, float]:
        """Returns the measures of some evaluations, such as `test/accuracy`, and shows them."""
        values: dict[str, float] = {}
        for name in names_due:
            found = self.evaluations[name](state.average or state.params)
            result = {f"{name}/{key}": value for key, value in found.items() if key != "examples"}
            self._require_finite(step, result)
            values.update(result)
            progress.say(f"step {step}: " + ", ".join(f"{key} {value:.4f}" for key, value in result.items()))
        return values

    def _check_finite(self) -> dict[str, float]:
        """Fetches the metrics of the steps since the last time and returns the newest. Raises as `_require_finite`."""
        fetched = jax.device_get([outputs for _, outputs in self.pending])  # in one transfer
        for (step, _), outputs in zip(self.pending, fetched, strict=True):
            self.newest = {f"train/{name}": float(value) for name, value in outputs.items()}
            self._require_finite(step, self.newest)
        self.pending.clear()
        return dict(self.newest)

    def _require_finite(self, step: int, values: dict[str, float]) -> None:
        """Raises a UserError where one of a step's values is not finite."""
        for name, value in values.items():
            if not math.isfinite(value):
                kept = self.store.latest_step() if self.store else None
                where = f"the checkpoint of step {kept} is kept" if kept else "there is no checkpoint yet"
                raise UserError(
                    f"{name} is {value} at step {step}, and {where}; lower config.optimizer.learning_rate, "
                    "warm up for longer or clip gradients with config.optimizer.grad_clip_norm"
                )

    def _finish(self, state: TrainState) -> None:
        """Waits for the last checkpoint and writes the model."""
        assert self.store is not None
        self.store.wait()
        params = sharding.to_first_host(state.average or state.params)
        if params is not None:
            path = self.folder / "model.npz"
            with _writing(self.folder):
                model_file.write(path, names.Published(params), self._description())
            _LOG.info("wrote %s", path)


def _items(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds of a state; the step is its name."""
    return {"params": state.params, "opt_state": state.opt_state, "average": state.average}


def _due(every: int | None, step: int) -> bool:
    return every is not None and step % every == 0
