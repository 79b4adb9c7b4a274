"""Makes shards in several processes, and shows how far they are."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etils import epath

from vit_jax import progress
from vit_jax.data import prefetch
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
    maker = _Maker(origin, encoding, shards, folder)
    workers = min(workers, len(shards))
    mend = "start the same command again to go on, with fewer --workers"
    pool = prefetch.Pool(maker, threads=1, workers=workers if workers > 1 else 0, mend=mend)
    try:
        with progress.shown("preparing", sum(shard.stop - shard.start for shard in shards)) as count:
            shown = threading.Thread(target=maker.watch, args=(count,), daemon=True)
            shown.start()
            try:
                for number, made in pool.finished(range(len(shards))):
                    yield shards[number], made
            finally:
                maker.stop.set()  # ends the shards that are being made, too, if it did not come to the end
                shown.join()
    finally:
        pool.close()


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
