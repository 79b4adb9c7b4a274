"""What a run has open: the edge where it reads, writes, evaluates and saves. The order of it all is in `loop.py`."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from vit_jax import chips, data, sharding
from vit_jax import config as config_lib
from vit_jax.checkpoints import model_file, names
from vit_jax.checkpoints.formats import Description
from vit_jax.checkpoints.store import FOLDER, Store
from vit_jax.errors import UserError
from vit_jax.evaluation import computed_once, make_evaluations
from vit_jax.models.functional import of_model
from vit_jax.models.model import Model
from vit_jax.models.preprocessed import preprocessed
from vit_jax.training import metrics, run_folder, start, work
from vit_jax.training.hosts import Hosts
from vit_jax.training.state import TrainState, abstract_state, create_state, evaluated
from vit_jax.training.step import Metrics, make_step

_LOG = logging.getLogger(__name__)


class Due(NamedTuple):
    """What comes after a step, in this order."""

    log: bool
    save: bool
    evaluations: list[str]
    last: bool  # whether it is the run's last step


class Run:
    """One run from its start or its newest checkpoint to its end."""

    def __init__(
        self,
        config: config_lib.Config,
        mesh: jax.sharding.Mesh,
        folder: epath.Path,
        model: Model,
        hosts: Hosts,
        trained_on: data.Identity,
        closing: contextlib.ExitStack,
    ):
        """Opens the data sets and makes the step; nothing is written.

        Args:
            config: resolved, with every duration in steps.
            mesh: of all devices.
            folder: the run's, which may not be there yet.
            model: of shapes alone.
            hosts: the run's processes.
            trained_on: what config.json records of the training set.
            closing: closes at the end what the run has opened.

        Raises:
            UserError: a data set is missing or does not fit the config.
        """
        assert config.total_steps is not None
        self.config, self.folder, self.total = config, folder, config.total_steps
        self._mesh, self._model, self._hosts, self._trained_on = mesh, model, hosts, trained_on
        self._closing, self._first_process = closing, jax.process_index() == 0
        settings = preprocessed(config, model)
        self._dataset = closing.enter_context(data.open_training(settings))
        self._evaluations = make_evaluations(settings, model, mesh, closing)
        self.step: Any = make_step(config, model, mesh)
        self._log_steps = min(config.log_steps, max(1, self.total // 10))
        self._store: Store | None = None
        self._writer: metrics.Writer | None = None
        self._pending: list[tuple[int, Metrics]] = []  # metrics that are still on the devices
        self._logged = 0  # the newest step whose metrics are written
        self._values: dict[str, float] = {}  # those of the newest step that were fetched, and its measures

    def begin(self) -> tuple[TrainState, int]:
        """Returns the state to go on from, and its step, after the evaluations that a stop has put off."""
        state, self._start = self._restored() or (self._new(), 0)
        for line in sharding.table(state.params, short=self.config.log.parameters == "short").splitlines():
            _LOG.info("%s", line)
        progress = metrics.Progress(
            self._start,
            self.total,
            self.config.global_batch_size,
            first_process=self._first_process,
            peak=self._images_at_peak(),
        )
        self._progress = self._closing.enter_context(contextlib.closing(progress))
        self._put_off_values = self._measures(self._put_off(), self._start, state)
        if self._start:
            self._values = {**metrics.values_of(self.folder, self._start), **self._put_off_values}
        return state, self._start

    def batches(self, start: int) -> Iterator[dict[str, jax.Array]]:
        """Yields the training batches from a step on, as arrays of the global batch."""
        size = self.config.global_batch_size
        rows = sharding.local_rows(self._mesh, size)
        made = self._dataset.batches(size, start_step=start, rows=rows)
        with contextlib.closing(made):
            while True:
                self._keep_pace()
                begin = time.monotonic()
                batch = next(made)
                self._progress.waited(time.monotonic() - begin)
                yield sharding.to_devices(batch, self._mesh, size)

    def first_step(self, state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Metrics]:
        """Compiles the step, makes the first one and waits for it.

        Several processes compile each at its own pace and begin the step together: on CPUs a collective is given up if
        one process comes to the first of them half a minute after another.

        Raises:
            UserError: a metric is not finite.
        """
        _LOG.info("compiling the step")
        begin = time.monotonic()
        self.step = self.step.lower(state, batch).compile()
        _LOG.info("compiled in %.0f s", time.monotonic() - begin)
        if self._hosts.count > 1:
            self._hosts.sync("the step is compiled")
        state, outputs = self.step(state, batch)
        self._require_finite(self._start + 1, _floats(jax.device_get(outputs)))
        return state, outputs

    def open(self) -> None:
        """Makes the folder and opens what is written to; the first step has succeeded."""
        with run_folder.writing(self.folder):
            if self._first_process:
                run_folder.write_descriptions(self.folder, self.config, self._trained_on, self._description())
            self._hosts.sync("the run's folder is made")
            run_folder.require_shared(self.folder)
            if self._store is None:
                self._open_store()
            writer = metrics.Writer(
                self.folder,
                self._start,
                self.config,
                first_process=self._first_process,
                put_off=self._put_off_values,
            )
            self._writer = self._closing.enter_context(contextlib.closing(writer))

    def due(self, done: int, outputs: Metrics, stopping: bool) -> Due:
        """Takes a step's metrics, which stay on the devices, and returns what comes after it."""
        self._pending.append((done, outputs))
        self._progress.step(done)
        last = done == self.total
        return Due(
            log=last or done % self._log_steps == 0,
            save=last or stopping or _divides(self.config.checkpoint.every_steps, done),
            evaluations=self._evaluations_at(done),
            last=last,
        )

    def log(self, done: int) -> None:
        """Writes and shows the metrics of a step."""
        self._fetch()
        self._values.update(self._progress.speed(done))
        self._progress.report(done, self._values)
        self._write(done, self._values)
        self._logged = done
        self._progress.resume(done)

    def save(self, done: int, state: TrainState) -> None:
        """Saves a checkpoint, which is never ahead of the metrics on the disk; it is written behind."""
        self._fetch()
        assert self._writer is not None and self._store is not None
        with run_folder.writing(self.folder):
            self._writer.flush()
            self._store.save(done, _items(state))

    def evaluate(self, chosen: Sequence[str], done: int, state: TrainState) -> None:
        """Runs some evaluations, and adds their measures to the metrics of the step."""
        if not chosen:
            return
        self._fetch()
        measures = self._measures(chosen, done, state)
        self._write(done, measures if self._logged == done else {**self._values, **measures})
        self._values.update(measures)
        self._progress.resume(done)  # the time of evaluations is not that of training

    def say(self, text: str) -> None:
        """Waits for the newest checkpoint, and shows a line."""
        assert self._store is not None
        self._store.wait()
        self._progress.say(text)

    def finish(self, state: TrainState) -> dict[str, float]:
        """Waits for the last checkpoint, writes the model, and returns the last step's metrics."""
        assert self._writer is not None and self._store is not None
        self._store.wait()
        with run_folder.writing(self.folder):
            self._writer.flush()  # a run with a model is complete, and nothing would make its last measures again
        params = sharding.to_first_host(of_model(evaluated(state)))
        if params is not None:
            path = self.folder / "model.npz"
            with run_folder.writing(self.folder):
                model_file.write(path, names.Published(params), self._description())
            _LOG.info("wrote %s", path)
        return dict(self._values)

    def _keep_pace(self) -> None:
        """Waits for the step before the last, so that few batches are on the devices at a time.

        The last step runs while the next batch is moved to the devices.
        """
        if len(self._pending) > 1:
            jax.block_until_ready(self._pending[-2][1])

    def _images_at_peak(self) -> float | None:
        """Returns the images a second of all devices at their published peak; None for CPUs and unknown devices."""
        chip = chips.of_device(jax.devices()[0].device_kind)
        if chip is None:
            return None
        return jax.device_count() * chip.device_peak / work.flops_of_step(self.config, self._model, 1)

    def _restored(self) -> tuple[TrainState, int] | None:
        """Returns the state and the step of the newest whole checkpoint, if there is one."""
        if not (self.folder / FOLDER).exists():
            return None
        abstract = abstract_state(self.config, self._model, self._mesh)
        if not (restored := self._open_store().restore(_items(abstract))):
            return None
        step, items = restored
        _LOG.info("going on from the checkpoint of step %d in %s", step, self.folder)
        number = jax.make_array_from_callback((), abstract.step.sharding, lambda _: np.int32(step))
        return TrainState(step=number, **items), step

    def _new(self) -> TrainState:
        params = start.initial_params(self.config, self._model)
        return create_state(self.config, self._model, params, self._mesh)

    def _open_store(self) -> Store:
        store = Store(self.folder / FOLDER, self.config.checkpoint.keep)
        self._store = self._closing.enter_context(contextlib.closing(store))
        return store

    def _description(self) -> Description:
        return Description(self._model.arch, self._model.preprocessing, self._model.class_names)

    def _evaluations_at(self, step: int) -> list[str]:
        """Returns the names of the evaluations that are due after a step."""
        last = step == self.total
        return [name for name, s in self.config.evaluations.items() if last or _divides(s.every_steps, step)]

    def _put_off(self) -> list[str]:
        """Returns the names of the evaluations that were due at the step to go on from, and were not made.

        A stop puts them off, and a kill may come before them. An evaluation that is new in the config is among them.
        """
        if not self._start:
            return []
        written = metrics.values_of(self.folder, self._start)
        due = self._evaluations_at(self._start)
        found = [name for name in due if not any(key.startswith(f"{name}/") for key in written)]
        # All processes evaluate the same, or some would wait for ever.
        self._hosts.require_same("what the metrics hold", found, run_folder.SHARE)
        return found

    def _measures(self, chosen: Sequence[str], step: int, state: TrainState) -> dict[str, float]:
        """Returns the measures of some evaluations, such as `test/accuracy`, and shows them."""
        values: dict[str, float] = {}
        params = evaluated(state)  # the same for all, so that they share the features
        with computed_once():
            for name in chosen:
                found = self._evaluations[name](params)
                result = {f"{name}/{key}": value for key, value in found.items() if key != "examples"}
                self._require_finite(step, result)
                values.update(result)
                self._progress.say(f"step {step}: " + ", ".join(f"{key} {value:.4f}" for key, value in result.items()))
        return values

    def _write(self, done: int, values: dict[str, float]) -> None:
        assert self._writer is not None
        with run_folder.writing(self.folder):
            self._writer.write(done, values)

    def _fetch(self) -> None:
        """Fetches the metrics of the steps since the last time, in one transfer.

        Raises:
            UserError: one of them is not finite.
        """
        for (step, _), outputs in zip(self._pending, jax.device_get([o for _, o in self._pending]), strict=True):
            self._values = _floats(outputs)
            self._require_finite(step, self._values)
        self._pending.clear()

    def _require_finite(self, step: int, values: dict[str, float]) -> None:
        """Raises UserError if one of a step's values is not finite."""
        for name, value in values.items():
            if not math.isfinite(value):
                kept = self._store.latest_step() if self._store else None
                where = f"the checkpoint of step {kept} is kept" if kept else "there is no checkpoint yet"
                raise UserError(
                    f"{name} is {value} at step {step}, and {where}; lower config.optimizer.learning_rate, "
                    "warm up for longer or clip gradients with config.optimizer.grad_clip_norm"
                )


def _floats(outputs: Metrics) -> dict[str, float]:
    """Returns a step's metrics, fetched from the devices, by the names that are written."""
    return {f"train/{name}": float(value) for name, value in outputs.items()}


def _items(state: TrainState) -> dict[str, Any]:
    """Returns what a checkpoint holds of a state; the step is its name."""
    return {"params": state.params, "opt_state": state.opt_state, "average": state.average}


def _divides(every: int | None, step: int) -> bool:
    return every is not None and step % every == 0
