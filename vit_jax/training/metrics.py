"""Where a run's numbers go: `metrics.jsonl`, TensorBoard, and the terminal."""

import json
import logging
import os
import sys
import time
from collections.abc import Mapping

from etils import epath

FILE = "metrics.jsonl"
_LOG = logging.getLogger(__name__)


class MetricsFile:
    """`metrics.jsonl`, one JSON object a line: `step`, `time` (seconds since the epoch) and the values.

    Going on from a step keeps the lines up to it. Local files are appended to; objects in buckets can't be, and are
    written anew at each `flush`.
    """

    def __init__(self, folder: epath.Path, step: int):
        self._path, self._append = folder / FILE, "://" not in str(folder)
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self._lines = _kept(lines, step)
        if self._append or len(self._lines) != len(lines):
            temporary = folder / f".{FILE}.partial"
            temporary.write_text("".join(line + "\n" for line in self._lines))
            temporary.replace(self._path)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        line = json.dumps({"step": step, "time": time.time(), **values})
        if self._append:
            with self._path.open("a") as file:
                file.write(line + "\n")
        else:
            self._lines.append(line)

    def flush(self) -> None:
        if not self._append:
            self._path.write_text("".join(line + "\n" for line in self._lines))


def _kept(lines: list[str], last_step: int) -> list[str]:
    """The lines up to a step, one for each; one torn by a kill is dropped."""
    kept: dict[int, str] = {}
    for line in lines:
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue
        if step <= last_step:
            kept[step] = line
    return [kept[step] for step in sorted(kept)]


class Writer:
    """Writes metrics to everywhere at once. On processes other than the first it does nothing."""

    def __init__(self, folder: epath.Path, step: int, *, tensorboard: bool, first_process: bool):
        self._file = MetricsFile(folder, step) if first_process else None
        self._tensorboard = None
        if tensorboard and first_process:
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else TensorFlow greets on stderr
            from clu import metric_writers  # imports TensorFlow

            self._tensorboard = metric_writers.AsyncWriter(metric_writers.SummaryWriter(str(folder)))

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
    """A bar on a terminal, plain lines in a log elsewhere."""

    def __init__(self, step: int, total: int):
        self._total, self._start, self._start_time = total, step, time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            import tqdm

            self._bar = tqdm.tqdm(total=total, initial=step, unit="step", dynamic_ncols=True)

    def step(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the loss and the speed, and the time left."""
        shown = {
            "loss": f"{values['train/loss']:.4g}",
            "images/s": f"{values['train/images_per_second']:,.0f}",
        }
        if self._bar is not None:
            self._bar.set_postfix(shown)
            return
        left = (time.monotonic() - self._start_time) / max(step - self._start, 1) * (self._total - step)
        minutes, seconds = divmod(round(left), 60)
        text = ", ".join(f"{name} {value}" for name, value in shown.items())
        _LOG.info("step %d of %d: %s, %d:%02d left", step, self._total, text, minutes, seconds)

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            _LOG.info("%s", text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
