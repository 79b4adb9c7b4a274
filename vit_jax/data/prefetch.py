"""Making items ahead of time, in order: in threads of this process, or in worker processes."""

import collections
import contextlib
import ctypes
import itertools
import logging
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from vit_jax.data import messages, shared
from vit_jax.errors import UserError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_IN_USE = 3  # items that whoever asked for them may keep, before further ones come through a pipe, which is slower
_MEND = "set config.data.workers lower, and guard a script of your own by if __name__ == '__main__'"


class Pool:
    """Threads or worker processes that call `make(number)`.

    With `workers`, `make` is sent once to each of so many spawned processes; else it runs in `threads` threads. All end
    when the pool is closed or forgotten. `mend` is what the user can do if a process dies.
    """

    def __init__(self, make: Callable[[int], Any], threads: int, workers: int, mend: str = _MEND) -> None:
        self._executor: futures.Executor
        self._slots: shared.Slots | None = None
        self._make, self.workers, self._mend = make, workers, mend
        if workers:
            context = multiprocessing.get_context("spawn")
            formatter = messages.formatter()
            self._executor = futures.ProcessPoolExecutor(workers, context, _start_worker, (make, formatter))
            self.ahead = 2 * workers  # one is made while the one before it travels
            self._slots = shared.Slots(self.ahead + _IN_USE)
        else:
            self._executor = futures.ThreadPoolExecutor(threads, "data")
            self.ahead = threads
        # A finalizer and not __del__, which at exit comes after the modules that it needs are gone.
        self.close = weakref.finalize(self, self._executor.shutdown, cancel_futures=True)

    def map(self, numbers: Iterable[int]) -> "Prefetched":
        """Returns `make(number)` of each number, in order. Work starts at once, before the first item is asked for."""
        return Prefetched(self, numbers)

    def finished(self, numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yields each number and `make(number)`, as soon as it is made. All of them are begun as workers are free."""
        waiting = {(pending := self.submit(number)).future: (number, pending) for number in numbers}
        for future in futures.as_completed(waiting):
            number, pending = waiting[future]
            yield number, self.result(pending)

    def submit(self, number: int) -> "Pending":
        """Starts `make(number)`. Raises UserError if a worker process has died."""
        try:
            if self._slots is None:
                return Pending(self._executor.submit(self._make, number), None)
            slot = self._slots.take()
            address = slot.address if slot else None
            return Pending(self._executor.submit(_make_in_worker, number, address), slot)
        except BrokenProcessPool as error:
            raise self._died() from error

    def result(self, pending: "Pending") -> Any:
        """Waits for an item. Raises what `make` raises, and UserError if a worker process has died."""
        try:
            made = pending.future.result()
        except BrokenProcessPool as error:
            raise self._died() from error
        if self._slots is None:
            return made
        return self._slots.unpacked(made, pending.slot)

    def forget(self, pending: "Pending") -> None:
        """Cancels an item, if it is not begun."""
        pending.future.cancel()
        if self._slots is not None:
            slots = self._slots
            pending.future.add_done_callback(lambda _: slots.give_back(pending.slot))

    def _died(self) -> UserError:
        return UserError(f"a worker process ended without a reason, perhaps for want of memory; {self._mend}")


class Pending(NamedTuple):
    """An item that is being made, and the shared memory that it will be in."""

    future: futures.Future
    slot: Any


class Prefetched(Iterator[Any]):
    """The items of `Pool.map`; what `make` raises is raised here."""

    def __init__(self, pool: Pool, numbers: Iterable[int]) -> None:
        self._pool, self._rest = pool, iter(numbers)
        self._pending: collections.deque[Pending] = collections.deque()
        self._submit(pool.ahead)

    def _submit(self, count: int) -> None:
        for number in itertools.islice(self._rest, count):
            self._pending.append(self._pool.submit(number))

    def __next__(self) -> Any:
        """Returns the next item.

        Raises:
            UserError: a worker process died.
        """
        if not self._pending:
            raise StopIteration
        result = self._pool.result(self._pending.popleft())
        self._submit(1)
        return result

    def close(self) -> None:
        """Cancels what is not begun."""
        for pending in self._pending:
            self._pool.forget(pending)
        self._pending.clear()


def _start_worker(make: Callable[[int], Any], formatter: logging.Formatter | None) -> None:
    global _make
    _make = make
    _keep_memory()
    messages.show_in_worker(formatter)
    # Signals to the whole group are for the main process, which may still save; workers end when it does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _keep_memory() -> None:
    """Makes this process keep the memory that it frees, for the next image.

    By default the C library of Linux gives memory of this size back to the system each time, and the system fills it
    with zeros each time that it is asked for; on small images that is a tenth of the work.
    """
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such settings
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 2**30)
        mallopt(_MMAP_THRESHOLD, 2**25)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


_make: Callable[[int], Any]


def _make_in_worker(number: int, address: shared.Address | None) -> shared.Packed:
    return shared.sent(lambda: _make(number), address)
