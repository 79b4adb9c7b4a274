"""What a user sees and gets of a long compile: a line every half a minute, and one sentence when a signal ends it."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def progress(what: str, every: float = 25.0) -> Iterator[None]:
    """Logs that `what` is being compiled, at once and then every `every` seconds until the block ends."""
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
    """Lets SIGTERM and Ctrl-C end the process with 143 or 130 and a sentence, which ends with what `kept` returns.

    Python's own handlers wait for the compiler, which takes minutes. A thread waits for the signals instead; the caller
    blocks them, and so does every thread that it starts later. Holding `before_end` puts the end off.
    """
    signals = {signal.SIGTERM: "ended by SIGTERM", signal.SIGINT: "interrupted"}

    def wait() -> None:
        number = signal.sigwait(signals)
        with before_end:
            print(f"error: {signals[signal.Signals(number)]}; {kept()}", file=sys.stderr, flush=True)
            os._exit(128 + number)

    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=wait, daemon=True).start()
