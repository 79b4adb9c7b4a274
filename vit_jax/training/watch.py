"""Finds the processes of a job whose heartbeats have stopped, and those whose training makes no progress."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any


def name(process: int, host: str | None) -> str:
    """Returns the name of a process for messages, such as "process 3 on node7"."""
    return f"process {process} on {host}" if host else f"process {process}"


@dataclasses.dataclass
class _Seen:
    """What is known of one process. Times are in seconds on the clock of `Watch`."""

    beat: Any = None  # the newest heartbeat
    host: str | None = None
    heard: float = 0.0  # when the newest heartbeat arrived
    step: int | None = None
    stepped: float = 0.0  # when the process reached its step
    reported: bool = False  # whether `lagging` has reported the process at this step


class Watch:
    """Keeps the newest heartbeats of all the processes; process 0 owns it.

    It measures time with its own clock, which stops while process 0 does not run. If process 0 was suspended, it
    therefore does not conclude that the others are dead.
    """

    def __init__(self, count: int, seconds: float, period: float):
        """Starts the clock.

        Args:
            count: the number of processes.
            seconds: how long a process may send no heartbeat, or stay at one step, before it is reported.
            period: the time between two heartbeats of a process, in seconds.
        """
        self._seconds, self._period = seconds, period
        self._seen = {process: _Seen() for process in range(count)}
        self._now, self._looked = 0.0, time.monotonic()

    def look(self, beats: Mapping[int, tuple[Any, int | None, str]]) -> None:
        """Takes the newest heartbeats into account. The caller must call it once in each period.

        Args:
            beats: for each process that has written one, its newest heartbeat as (counter, step, host name). The
                counter may be any value that changes with each heartbeat; the step is None before the first step.
        """
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
        """Returns the names of the processes whose heartbeats have stopped, or "" if there are none.

        At most three are named, followed by the number of the others.
        """
        late = [name(p, seen.host) for p, seen in self._seen.items() if self._now - seen.heard > self._seconds]
        return " and ".join(late[:3]) + (f" and {len(late) - 3} more" if len(late) > 3 else "")

    def lagging(self) -> list[str]:
        """Returns a sentence for each process that stays too long at its step while another process is further.

        Each process is reported only once for each step.
        """
        furthest = max((seen.step for seen in self._seen.values() if seen.step is not None), default=0)
        found = []
        for process, seen in self._seen.items():
            stands = self._now - seen.stepped
            if seen.step is not None and seen.step < furthest and stands > self._seconds and not seen.reported:
                seen.reported = True
                where = f"{name(process, seen.host)} has been at step {seen.step} for {stands:.0f} s"
                found.append(f"{where}, and others are at {furthest}: they wait for it")
        return found
