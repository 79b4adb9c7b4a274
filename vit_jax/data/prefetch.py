"""Making items ahead of time, in order: in threads of this process, or in worker processes."""

import collections
import itertools
import logging
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from vit_jax.data import messages
from vit_jax.errors import UserError


class Prefetched(Iterator[Any]):
    """Yields `make(number)` for each of `numbers`, in order; what `make` raises is raised here.

    Work starts at once, before the first item is asked for. With `workers`, `make` is sent once to each of so many
    spawned processes; else it runs in `threads` threads. Both end when the iterator is closed or forgotten.
    """

    def __init__(self, make: Callable[[int], Any], numbers: Iterable[int], threads: int, workers: int) -> None:
        self._rest = iter(numbers)
        self._pool: futures.Executor
        self._make = make
        if workers:
            context = multiprocessing.get_context("spawn")
            self._pool = futures.ProcessPoolExecutor(workers, context, _start_worker, (make, messages.formatter()))
            self._make, ahead = _make_in_worker, 2 * workers  # one is made while the one before it travels
        else:
            self._pool = futures.ThreadPoolExecutor(threads, "data")
            ahead = threads
        # Not __del__, which at exit comes after the modules that it needs are gone.
        self.close = weakref.finalize(self, self._pool.shutdown, cancel_futures=True)
        self._pending: collections.deque[futures.Future] = collections.deque()
        self._submit(ahead)

    def _submit(self, count: int) -> None:
        for number in itertools.islice(self._rest, count):
            self._pending.append(self._pool.submit(self._make, number))

    def __next__(self) -> Any:
        """The next item.

        Raises:
            UserError: a worker process died.
        """
        if not self._pending:
            self.close()
            raise StopIteration
        try:
            result = self._pending.popleft().result()
            self._submit(1)
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process of the data pipeline ended without a reason, perhaps for want of memory; set "
                "config.data.workers lower, and guard a script of your own by if __name__ == '__main__'"
            ) from error
        return result


def _start_worker(make: Callable[[int], Any], formatter: logging.Formatter | None) -> None:
    global _make
    _make = make
    messages.show_in_worker(formatter)
    # Signals to the whole group are for the main process, which may still save; workers end when it does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


_make: Callable[[int], Any]


def _make_in_worker(number: int) -> Any:
    return _make(number)
