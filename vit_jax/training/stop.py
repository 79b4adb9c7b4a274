"""Handles SIGTERM and Ctrl-C during training: the run finishes its step, saves a checkpoint and ends."""

import signal
import threading
from types import FrameType
from typing import Any, NoReturn, Self

from vit_jax.errors import one_line
from vit_jax.progress import in_notebook
from vit_jax.training.hosts import Hosts

_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


class Interrupted(KeyboardInterrupt):
    """What `Stop` raises after Ctrl-C or a notebook's interrupt. A notebook shows it without a traceback."""

    _render_traceback_ = one_line


class Stop:
    """Records whether SIGTERM or SIGINT (Ctrl-C) was received.

    Inside its context these signals do not kill the process. With one process, a signal ends the run at once as long
    as `saves` is false, because there is nothing to save yet. With several processes, `Hosts` decides after which step
    all of them stop. A second Ctrl-C ends the process at once; in a notebook, only the cell. The handlers are installed
    only in the main thread; in another thread, signals are left to the caller.

    Attributes:
        saves: whether the run can save a checkpoint; the training loop sets it after the first step.
        received: the number of the last signal that this process received, or None.
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

    def __exit__(self, error: type | None, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        # A signal may come too late to stop the run. A caller that handles signals itself must not miss it.
        before = None if error or self.received is None else self._before.get(self.received)
        if callable(before) and before is not signal.default_int_handler and not in_notebook():
            before(self.received, None)

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.received = number
        if number == signal.SIGINT:
            # A second Ctrl-C kills the process. In a notebook it would kill the kernel, so there the second one gets
            # the notebook's own handler.
            signal.signal(number, self._before[number] if in_notebook() else signal.SIG_DFL)
        self._hosts.request_stop()
        if self._hosts.count == 1 and not self.saves:
            self._end("")

    def agreed(self, step: int) -> bool:
        """Returns whether the run should save and end after `step`; the same in all processes. See `Hosts.agreed`."""
        return self._hosts.agreed(step) if self._hosts.count > 1 else self.received is not None

    @property
    def name(self) -> str:
        """The name of the received signal, for messages; "SIGTERM" if another process got it."""
        interrupt = "interrupt" if in_notebook() else "Ctrl-C"
        return interrupt if self.received == signal.SIGINT else "SIGTERM"

    @property
    def restart(self) -> str:
        """What continues the run, for messages."""
        return "the same call" if in_notebook() else "the same command"

    def end(self, step: int) -> NoReturn:
        """Ends the run after the checkpoint of `step` is saved.

        Raises:
            Interrupted: this process received Ctrl-C and is the only process.
            SystemExit: in all other cases; code 130 if this process received Ctrl-C, else 143.
        """
        self._end(f"saved step {step}")

    def _end(self, reason: str) -> NoReturn:
        # With several processes, `Hosts.fail_with` would treat a KeyboardInterrupt as a failure of the run.
        if self.received == signal.SIGINT and self._hosts.count == 1:
            raise Interrupted(reason) if reason else Interrupted
        raise SystemExit(_CODES.get(signal.Signals(self.received or signal.SIGTERM), 143))
