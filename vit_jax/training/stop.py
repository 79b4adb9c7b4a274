"""Stopping in good order: SIGTERM and Ctrl-C save at the next step and end the run."""

import builtins
import signal
import threading
from types import FrameType
from typing import Any, NoReturn, Self

from vit_jax.training.hosts import Hosts

_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


class Stop:
    """Whether a signal has asked for an end. Around a run it is a context in which SIGTERM and SIGINT do not kill.

    Alone, until `saves` is set there is nothing to save, and a signal ends the run at once; so does a second Ctrl-C.
    Several processes agree on what to do. Threads other than the main one leave signals to the caller.
    """

    def __init__(self, hosts: Hosts):
        self._hosts = hosts
        self.saves = False
        self.received: int | None = None

    def __enter__(self) -> Self:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _CODES}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received = number
        if number == signal.SIGINT:
            # A notebook's kernel would end with the process, so there the second one is an ordinary interrupt.
            signal.signal(number, self._before[number] if in_notebook() else signal.SIG_DFL)
        self._hosts.request_stop()
        if self._hosts.count == 1 and not self.saves:
            self._end("")

    def agreed(self, step: int) -> bool:
        """Returns whether all processes are to save and end after `step`."""
        return self._hosts.agreed(step) if self._hosts.count > 1 else self.received is not None

    @property
    def name(self) -> str:
        """What a user calls that which ends the run."""
        return "Ctrl-C" if self.received == signal.SIGINT else "SIGTERM"

    def end(self, step: int) -> NoReturn:
        """Ends the run after a clean save: by KeyboardInterrupt after Ctrl-C, else by SystemExit with code 143."""
        self._end(f"saved step {step}")

    def _end(self, reason: str) -> NoReturn:
        # Of several processes one's KeyboardInterrupt would be taken for a failure by the others.
        if self.received == signal.SIGINT and self._hosts.count == 1:
            raise KeyboardInterrupt(reason) if reason else KeyboardInterrupt
        raise SystemExit(_CODES.get(signal.Signals(self.received or signal.SIGTERM), 143))


def in_notebook() -> bool:
    """Returns whether this is a kernel of Jupyter or Colab."""
    shell = getattr(builtins, "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")
