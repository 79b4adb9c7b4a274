"""Makes shards in several processes, and shows how far they are."""

import logging
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from etils import epath

from vit_jax import progress
from vit_jax.data import messages, prefetch
from vit_jax.errors import UserError
from vit_jax.preparing import shard as shard_lib
from vit_jax.preparing.example import Origin
from vit_jax.preparing.settings import Encoding
from vit_jax.preparing.shard import Made, Shard

_LOOK_SECONDS = 0.5


def run(
    origin: Origin, encoding: Encoding, shards: Sequence[Shard], folder: epath.Path, workers: int
) -> Iterator[tuple[Shard, Made]]:
    """Makes shards in `folder`, and yields each with its record as soon as it is made.

    Each is made in one of `workers` processes; with one worker, in a thread of this process.

    Raises:
        UserError: a shard can't be made, or a process died.
    """
    context = multiprocessing.get_context("spawn")
    maker = _Maker(origin, encoding, shards, folder)
    executor: futures.Executor
    make: Callable[[int], Made]
    if (workers := min(workers, len(shards))) > 1:
        executor = futures.ProcessPoolExecutor(workers, context, _start_worker, (maker, messages.formatter()))
        make = _make_in_worker
    else:
        executor, make = futures.ThreadPoolExecutor(1), maker
    try:
        with progress.shown("preparing", sum(shard.stop - shard.start for shard in shards)) as count:
            shown = threading.Thread(target=maker.watch, args=(count,), daemon=True)
            shown.start()
            try:
                made = {executor.submit(make, number): shard for number, shard in enumerate(shards)}
                for done in futures.as_completed(made):
                    yield made[done], done.result()
            finally:
                maker.stop.set()  # ends the shards that are being made, too, if it did not come to the end
                shown.join()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process ended without a reason, perhaps for want of memory; start the same command again to go "
            "on, with fewer --workers"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _start_worker(maker: "_Maker", formatter: logging.Formatter | None) -> None:
    global _maker
    _maker = maker
    prefetch.set_up_worker(formatter)


_maker: "_Maker"


def _make_in_worker(number: int) -> Made:
    return _maker(number)


class _Stopped(Exception):
    """Ends a shard that nobody waits for any longer."""


class _Maker:
    """Makes shard `number` when called. It is sent to each worker process when that starts."""

    def __init__(self, origin: Origin, encoding: Encoding, shards: Sequence[Shard], folder: epath.Path) -> None:
        self._origin, self._encoding, self._shards, self._folder = origin, encoding, shards, folder
        context = multiprocessing.get_context("spawn")
        self.stop = context.Event()
        self._done: Any = context.Value("q", 0)  # examples, of all processes

    def __call__(self, number: int) -> Made:
        return shard_lib.make(self._origin, self._encoding, self._shards[number], self._folder, self._count)

    def _count(self, more: int) -> None:
        if self.stop.is_set():
            raise _Stopped
        with self._done.get_lock():
            self._done.value += more

    def watch(self, count: Callable[[int], object]) -> None:
        """Tells `count` every so often how many more examples are done, until the work stops."""
        told = 0
        while True:
            stopped = self.stop.wait(_LOOK_SECONDS)
            done = self._done.value
            count(done - told)
            told = done
            if stopped:
                return
