"""What becomes of a run's numbers: they are written to each destination, and shown on the terminal.

A destination is a class in a file of its own: `metrics_file.py` (metrics.jsonl), `metrics_tensorboard.py`,
`metrics_wandb.py` (Weights & Biases). `Writer` decides which of them a run has.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from typing import Protocol

import jax
from etils import epath

from vit_jax.config import Config
from vit_jax.training import metrics_wandb
from vit_jax.training.metrics_file import FILE, MetricsFile, values_of
from vit_jax.training.metrics_tensorboard import TensorBoard
from vit_jax.training.stop import in_notebook

__all__ = ["FILE", "MetricsFile", "Progress", "Writer", "check", "values_of"]

_LOG = logging.getLogger(__name__)


class Destination(Protocol):
    """A place that metrics are written to."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of a step; steps come in order."""

    def flush(self) -> None:
        """Makes what is written so far outlast a kill, as far as the destination can."""

    def close(self) -> None:
        """Writes what is left, after which nothing more comes."""


def check(config: Config) -> None:
    """Raises UserError if a destination that the config asks for can't be had; nothing is created."""
    if config.wandb.project:
        metrics_wandb.check(config.wandb, first_process=jax.process_index() == 0)


class Writer:
    """Writes metrics to everywhere at once. On processes other than the first it does nothing."""

    def __init__(
        self,
        folder: epath.Path,
        step: int,
        config: Config,
        *,
        first_process: bool,
        put_off: Mapping[str, float] | None = None,
    ):
        """Goes on after `step`; `put_off` are values of that step which are known only now."""
        self._destinations: list[Destination] = []
        if not first_process:
            return
        put_off = put_off or {}
        file = MetricsFile(folder, step, put_off)
        self._destinations.append(file)
        if config.wandb.project:
            self._destinations.append(metrics_wandb.WandB(folder, step, config, file, put_off))
        if config.log.tensorboard:
            self._destinations.append(TensorBoard(folder, step, put_off))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for destination in self._destinations:
            destination.write(step, values)

    def flush(self) -> None:
        for destination in self._destinations:
            destination.flush()

    def close(self) -> None:
        """Closes every destination, even where closing one of them fails."""
        with contextlib.ExitStack() as closing:
            for destination in reversed(self._destinations):
                closing.callback(destination.close)


class Progress:
    """The speed, shown by plain lines in a log, and on the first process's terminal by a bar."""

    def __init__(self, start: int, total: int, batch_size: int, *, first_process: bool, peak: float | None = None):
        """`peak` is the images a second at which the devices would do nothing but the model's operations, if known."""
        self._total, self._batch_size, self._peak = total, batch_size, peak
        # Pairs of a step and when it ended: the one before the first, the first, and that from which the speed counts.
        self._start = self._since = (start, time.monotonic())
        self._first: tuple[int, float] | None = None
        self._bar = None
        if first_process and (in_notebook() or sys.stderr.isatty()):
            from tqdm.auto import tqdm  # a widget in a notebook

            self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True)

    def step(self, step: int) -> None:
        """Counts a step; the speed is measured from the first one's end on, when compilation is over."""
        if self._first is None:
            self._first = self._since = (step, time.monotonic())
        if self._bar is not None:
            self._bar.update()

    def resume(self, step: int) -> None:
        """Leaves the time since `step` ended out of the speed; evaluations are not training."""
        self._since = (step, time.monotonic())

    def speed(self, step: int) -> dict[str, float]:
        """Images a second since the last `resume`, and their part of the peak; the first step's include compilation."""
        since = self._since if self._since[0] < step else self._start
        speed = (step - since[0]) * self._batch_size / (time.monotonic() - since[1])
        return {"train/images_per_second": speed} | ({"train/mfu": speed / self._peak} if self._peak else {})

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the loss and the speed, and the time left."""
        shown = {
            "loss": f"{values['train/loss']:.4g}",
            "images/s": f"{values['train/images_per_second']:,.0f}",
        }
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
        """A line of its own."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            _LOG.info("%s", text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
