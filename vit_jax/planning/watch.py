"""Tells the user how a long compile goes: a line at regular intervals, and one sentence if a signal ends it."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def progress(what: str, every: float = 25.0) -> Iterator[None]:
    """Logs that `what` is being compiled, at once and then again every `every` seconds until the block ends."""
    begin, clock, done = time.monotonic(), time.strftime("%H:%M:%S"), threading.Event()

    def tick() -> None:
        while not done.wait(every):
            _LOG.info("still compiling %s, for %.0f s, since %s", what, time.monotonic() - begin, clock)

    _LOG.info("compiling %s", what)
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def end_at_signals(kept: Callable[[], str], before_end: threading.Lock) -> None:
    """Makes SIGTERM and Ctrl-C end the process at once, with exit code 143 or 130 and one sentence on stderr.

    A signal handler written in Python would not run before the compiler returns, which takes minutes. Python does,
    however, write the signal's number to a file descriptor at once (`signal.set_wakeup_fd`), and a thread that reads
    from there ends the process. A signal that is ignored when this is called stays ignored.

    Args:
        kept: returns the end of the sentence, which says what is kept.
        before_end: the process does not end while another thread holds this lock.
    """
    signals = {signal.SIGTERM: "ended by SIGTERM", signal.SIGINT: "interrupted"}
    reading, writing = socket.socketpair()
    writing.setblocking(False)

    def wait() -> None:
        number = next(number for number in iter(lambda: reading.recv(1)[0], None) if number in signals)
        with before_end:
            print(f"error: {signals[signal.Signals(number)]}; {kept()}", file=sys.stderr, flush=True)
            os._exit(128 + number)

    threading.Thread(target=wait, daemon=True).start()
    signal.set_wakeup_fd(writing.detach())
    for number in signals:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)
