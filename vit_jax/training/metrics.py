"""Writes the metrics of a run to each destination, and shows them on the terminal.

A destination is a class in a file of its own: `metrics_file.py` (metrics.jsonl), `metrics_tensorboard.py`,
`metrics_wandb.py` (Weights & Biases). `Writer` makes those that the config asks for.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from typing import Protocol

import jax
from etils import epath

from vit_jax import progress
from vit_jax.config import Config
from vit_jax.training import metrics_wandb
from vit_jax.training.metrics_file import FILE, MetricsFile, values_of
from vit_jax.training.metrics_tensorboard import TensorBoard

__all__ = ["FILE", "MetricsFile", "Progress", "Writer", "check", "values_of"]

_LOG = logging.getLogger(__name__)
_WAITS = 0.05  # a smaller share of the time is not shown


class Destination(Protocol):
    """A place that metrics are written to."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values of a step. Steps are given in order; the newest step may be given again with further values."""

    def flush(self) -> None:
        """Makes sure that what was written is kept if the process is killed, as far as the destination can."""

    def close(self) -> None:
        """Writes what is not written yet, and closes the destination. `write` must not be called afterwards."""


def check(config: Config) -> None:
    """Raises UserError if a destination of the config can't be used. Nothing is created."""
    if config.wandb.project:
        metrics_wandb.check(config.wandb, first_process=jax.process_index() == 0)


class Writer:
    """Writes metrics to all destinations of the config. In processes other than the first it does nothing."""

    def __init__(
        self,
        folder: epath.Path,
        step: int,
        config: Config,
        *,
        first_process: bool,
        put_off: Mapping[str, float] | None = None,
    ):
        """Opens the destinations.

        Args:
            folder: the run's folder.
            step: the step from which the run is resumed; 0 for a new run.
            config: says which destinations there are.
            first_process: whether this is the first process.
            put_off: values of `step` that were not known when it was written.
        """
        self._destinations: list[Destination] = []
        if not first_process:
            return
        put_off = put_off or {}
        file = MetricsFile(folder, step)
        if put_off:
            file.write(step, put_off)
        self._destinations.append(file)
        if config.wandb.project:
            self._destinations.append(metrics_wandb.WandB(folder, step, config, file, put_off))
        if config.log.tensorboard:
            tensorboard = TensorBoard(folder)
            if put_off:
                tensorboard.write(step, put_off)
            self._destinations.append(tensorboard)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for destination in self._destinations:
            destination.write(step, values)

    def flush(self) -> None:
        for destination in self._destinations:
            destination.flush()

    def close(self) -> None:
        """Closes every destination, even if closing one of them fails."""
        with contextlib.ExitStack() as closing:
            for destination in reversed(self._destinations):
                closing.callback(destination.close)


class Progress:
    """Measures the speed of a run and shows it: by a bar on the first process's terminal, else by lines in the log."""

    def __init__(self, start: int, total: int, batch_size: int, *, first_process: bool, peak: float | None = None):
        """Starts to measure.

        Args:
            start: the step from which the run is resumed; 0 for a new run.
            total: the number of steps of the whole run.
            batch_size: the number of images in a step.
            first_process: whether this is the first process.
            peak: the images per second that would use the devices' full published speed; None if it is not known.
        """
        self._total, self._batch_size, self._peak = total, batch_size, peak
        # Pairs of a step and the time of its end: before the first step, of the first step, of the last `resume`.
        self._start = self._since = (start, time.monotonic())
        self._first: tuple[int, float] | None = None
        self._waited = 0.0  # seconds of waiting for data since `_since`
        self._bar = None
        if first_process and progress.shows_bars():
            self._bar = progress.bar(total=total, initial=start, unit="step")

    def step(self, step: int) -> None:
        """Counts a step. The speed is measured from the end of the first step, so that compilation does not count."""
        if self._first is None:
            self._first = self._since = (step, time.monotonic())
            self._waited = 0.0
        if self._bar is not None:
            self._bar.update()

    def resume(self, step: int) -> None:
        """Starts to measure again after `step`, so that the time of evaluations does not count."""
        self._since = (step, time.monotonic())
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """Counts time in which the next batch was not ready."""
        self._waited += seconds

    def speed(self, step: int) -> dict[str, float]:
        """Returns the speed since the last `resume`: images per second, their share of the peak, and that of waiting.

        `train/data_wait` is the share of the time in which the next batch was not ready. After the first step, the time
        includes compilation.
        """
        since = self._since if self._since[0] < step else self._start
        seconds = time.monotonic() - since[1]
        speed = (step - since[0]) * self._batch_size / seconds
        values = {"train/images_per_second": speed, "train/data_wait": min(1.0, self._waited / seconds)}
        return values | ({"train/mfu": speed / self._peak} if self._peak else {})

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the loss, the speed and the time that is left."""
        shown = {
            "loss": f"{values['train/loss']:.4g}",
            "images/s": f"{values['train/images_per_second']:,.0f}",
        }
        if values["train/data_wait"] >= _WAITS:
            shown["waiting for data"] = f"{values['train/data_wait']:.0%}"
        if self._bar is not None:
            self._bar.set_postfix(shown)
            return
        text = ", ".join(f"{name} {value}" for name, value in shown.items())
        assert self._first is not None
        if steps := step - self._first[0]:
            left = (time.monotonic() - self._first[1]) / steps * (self._total - step)
            text += ", {}:{:02d} left".format(*divmod(round(left), 60))
        _LOG.info("step %d of %d: %s", step, self._total, text)

    def say(self, text: str) -> None:
        """Shows a line of text."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            _LOG.info("%s", text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
