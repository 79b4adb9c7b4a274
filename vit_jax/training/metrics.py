"""Where a run's numbers go: `metrics.jsonl`, TensorBoard, and the terminal."""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping

from etils import epath

from vit_jax.training.stop import in_notebook

FILE = "metrics.jsonl"
_LOG = logging.getLogger(__name__)


class MetricsFile:
    """`metrics.jsonl`, one JSON object a line: `step`, `time` (seconds since the epoch) and the values.

    Going on from a step keeps the lines up to it, and adds to its own line what was put off then. Local files are
    appended to; objects in buckets can't be, and are written anew at each `flush`.
    """

    def __init__(self, folder: epath.Path, step: int, put_off: Mapping[str, float] | None = None):
        self._path, self._append = folder / FILE, "://" not in str(folder)
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        self._lines, damaged = _kept(lines, step)
        if damaged:
            size = sum(map(len, damaged))
            _LOG.warning("%s: %d damaged lines (%d bytes) are dropped", self._path, len(damaged), size)
        if put_off:
            self._lines = [*_kept(lines, step - 1)[0], _line(step, {**values_of(folder, step), **put_off})]
        if self._append or put_off or len(self._lines) != len(lines):
            temporary = folder / f".{FILE}.partial"
            temporary.write_text("".join(line + "\n" for line in self._lines))
            temporary.replace(self._path)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        line = _line(step, values)
        if self._append:
            with self._path.open("a") as file:
                file.write(line + "\n")
        else:
            self._lines.append(line)

    def flush(self) -> None:
        if not self._append:
            self._path.write_text("".join(line + "\n" for line in self._lines))


def _line(step: int, values: Mapping[str, float]) -> str:
    return json.dumps({"step": step, "time": time.time(), **values})


def values_of(folder: epath.Path, step: int) -> dict[str, float]:
    """Returns the values that the folder's `metrics.jsonl` holds of a step; empty if it holds none."""
    path = folder / FILE
    kept, _ = _kept(path.read_bytes().splitlines() if path.exists() else [], step)
    found = json.loads(kept[-1]) if kept else {}
    if found.pop("step", None) != step:
        return {}
    return {key: value for key, value in found.items() if key != "time"}


def _kept(lines: list[bytes], last_step: int) -> tuple[list[str], list[bytes]]:
    """Returns the lines up to a step, one for each, and the damaged ones: no JSON object with an integer step."""
    kept: dict[int, str] = {}
    damaged = []
    for line in lines:
        try:
            step = json.loads(text := line.decode())["step"]
            if type(step) is not int:
                raise TypeError
        except (ValueError, KeyError, TypeError):
            damaged.append(line)
            continue
        if step <= last_step:
            kept[step] = text
    return [kept[step] for step in sorted(kept)], damaged


class Writer:
    """Writes metrics to everywhere at once. On processes other than the first it does nothing."""

    def __init__(
        self,
        folder: epath.Path,
        step: int,
        *,
        tensorboard: bool,
        first_process: bool,
        put_off: Mapping[str, float] | None = None,
    ):
        """Goes on after `step`; `put_off` are values of that step which are known only now."""
        self._file = MetricsFile(folder, step, put_off) if first_process else None
        self._tensorboard = None
        if tensorboard and first_process:
            # TensorFlow, which only writes events here, greets on stderr else, and again where it has oneDNN.
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
            os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
            from clu import metric_writers  # imports TensorFlow

            self._tensorboard = metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(folder)))
            if put_off:
                self._tensorboard.write_scalars(step, put_off)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        if self._file:
            self._file.write(step, values)
        if self._tensorboard:
            self._tensorboard.write_scalars(step, values)

    def flush(self) -> None:
        if self._file:
            self._file.flush()
        if self._tensorboard:
            self._tensorboard.flush()

    def close(self) -> None:
        self.flush()
        if self._tensorboard:
            self._tensorboard.close()


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
