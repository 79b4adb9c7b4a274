"""Which of a job's processes have fallen silent, and which stand still, by the signs of life that they give."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any


def name(process: int, host: str | None) -> str:
    return f"process {process} on {host}" if host else f"process {process}"


@dataclasses.dataclass
class _Seen:
    """The newest sign of life of a process, when it came, and since when the process has been at its step."""

    beat: Any = None
    host: str | None = None
    heard: float = 0.0
    step: int | None = None
    stepped: float = 0.0
    reported: bool = False  # for standing at this step


class Watch:
    """Process 0's view of all, on a clock of its own.

    That clock stops where the process does: one that was suspended itself does not take the others for dead.
    """

    def __init__(self, count: int, seconds: float, period: float):
        """`seconds` is how long a process may be silent; a sign of life is due in each `period`, in seconds."""
        self._seconds, self._period = seconds, period
        self._seen = {process: _Seen() for process in range(count)}
        self._now, self._looked = 0.0, time.monotonic()

    def look(self, beats: Mapping[int, tuple[Any, int | None, str]]) -> None:
        """To be called in each period with what there is by then: by process, (something new, its step, its host)."""
        now = time.monotonic()
        self._now += min(now - self._looked, 3 * self._period)
        self._looked = now
        for process, (beat, step, host) in beats.items():
            seen = self._seen[process]
            if beat != seen.beat:
                seen.beat, seen.host, seen.heard = beat, host, self._now
            if step != seen.step:
                seen.step, seen.stepped, seen.reported = step, self._now, False

    def silent(self) -> str:
        """Names those that have been silent for too long."""
        late = [name(p, seen.host) for p, seen in self._seen.items() if self._now - seen.heard > self._seconds]
        return " and ".join(late[:3]) + (f" and {len(late) - 3} more" if len(late) > 3 else "")

    def lagging(self) -> list[str]:
        """A sentence for each whose training stands still while others have gone further; once for each step."""
        furthest = max((seen.step for seen in self._seen.values() if seen.step is not None), default=0)
        found = []
        for process, seen in self._seen.items():
            stands = self._now - seen.stepped
            if seen.step is not None and seen.step < furthest and stands > self._seconds and not seen.reported:
                seen.reported = True
                where = f"{name(process, seen.host)} has been at step {seen.step} for {stands:.0f} s"
                found.append(f"{where}, and others are at {furthest}: they wait for it")
        return found
