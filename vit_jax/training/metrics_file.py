"""Writes `metrics.jsonl` in the run's folder: one JSON object per line, with each step once, even after a kill."""

import json
import logging
import time
from collections.abc import Iterator, Mapping

from etils import epath

FILE = "metrics.jsonl"
_BUCKET_SECONDS = 60.0  # between two writes of an object in a bucket
_LOG = logging.getLogger(__name__)


class MetricsFile:
    """The file `metrics.jsonl`. A line is a JSON object with `step`, `time` (seconds since the epoch) and the values.

    When a run is resumed from a step, the lines up to this step are kept. A local file is appended to. An object in a
    bucket can't be: it is written anew at each `flush`, and at a `write` if a minute has passed, so that a user can
    follow the run.
    """

    def __init__(self, folder: epath.Path, step: int):
        """Opens the file of a run that is resumed from `step`; 0 for a new run."""
        self._path, self._append = folder / FILE, "://" not in str(folder)
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        found, damaged = _by_step(lines)
        _warn_of(damaged, self._path)
        kept = {number: found[number] for number in sorted(found) if number <= step}
        self._lines = list(kept.values())
        self._newest, self._written = max(kept, default=0), time.monotonic()
        if self._append or len(self._lines) != len(lines):
            self._replace()

    def kept(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yields the steps in the file, in order, with their values."""
        for line in list(self._lines):
            yield json.loads(line)["step"], _values(line)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of a step, or adds them to its line if it is the newest one."""
        again = step == self._newest
        if again:
            self._lines[-1] = _line(step, {**_values(self._lines[-1]), **values})
        else:
            self._lines.append(_line(step, values))
        self._newest = step
        if not self._append:
            if time.monotonic() - self._written > _BUCKET_SECONDS:
                self.flush()
        elif again:
            self._replace()
        else:
            with self._path.open("a") as file:
                file.write(self._lines[-1] + "\n")

    def flush(self) -> None:
        if not self._append:
            self._path.write_text(self._text())
            self._written = time.monotonic()

    def _replace(self) -> None:
        """Writes the whole file beside the old one and then replaces that, so that a kill loses no line."""
        temporary = self._path.parent / f".{FILE}.partial"
        temporary.write_text(self._text())
        temporary.replace(self._path)

    def _text(self) -> str:
        return "".join(line + "\n" for line in self._lines)

    def close(self) -> None:
        self.flush()


def values_of(folder: epath.Path, step: int) -> dict[str, float]:
    """Returns the values of a step in the `metrics.jsonl` of a folder; empty if there are none."""
    return all_values(folder).get(step, {})


def all_values(folder: epath.Path, *, warn: bool = False) -> dict[int, dict[str, float]]:
    """Returns the values of every step in the `metrics.jsonl` of a folder, in order; empty if there are none.

    Damaged lines, such as the last one after a kill, are left out, and with `warn` a warning counts them.
    """
    path = folder / FILE
    found, damaged = _by_step(path.read_bytes().splitlines() if path.exists() else [])
    if warn:
        _warn_of(damaged, path)
    return {step: _values(found[step]) for step in sorted(found)}


def _warn_of(damaged: list[bytes], path: epath.Path) -> None:
    if damaged:
        size = sum(map(len, damaged))
        _LOG.warning("%s: %d damaged lines (%d bytes) are dropped", path, len(damaged), size)


def _line(step: int, values: Mapping[str, float]) -> str:
    return json.dumps({"step": step, "time": time.time(), **values})


def _values(line: str) -> dict[str, float]:
    """Returns the values of a line, without its step and time."""
    return {key: value for key, value in json.loads(line).items() if key not in ("step", "time")}


def _by_step(lines: list[bytes]) -> tuple[dict[int, str], list[bytes]]:
    """Returns the last line of each step, and the damaged lines, which are no JSON object with an integer step."""
    found: dict[int, str] = {}
    damaged = []
    for line in lines:
        try:
            step = json.loads(text := line.decode())["step"]
            if type(step) is not int:
                raise TypeError
        except (ValueError, KeyError, TypeError):
            damaged.append(line)
            continue
        found[step] = text
    return found, damaged
