"""A data set as a handle: opened once, asked for batches as often as one likes."""

import logging
import sys
from collections.abc import Callable, Collection, Generator, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from vit_jax.data import decode, draw, pipeline, prefetch, sources
from vit_jax.data.pipeline import Batch
from vit_jax.data.selection import Selection
from vit_jax.data.spec import Spec
from vit_jax.errors import UserError

_LOG = logging.getLogger(__name__)


class Dataset:
    """The examples of a spec: their number, their classes, and batches of them.

    The threads or worker processes that make batches start with the first batch and are kept until `close`, so that an
    evaluation that runs many times starts them once.
    """

    def __init__(self, spec: Spec, source: Selection | None = None) -> None:
        """Opens the data set; images are read when batches are asked for.

        `source` has the examples; by default they are those that the spec takes.

        Raises:
            UserError: the data set, the split or its examples are missing, or the crop does not fit the size.
        """
        if spec.crop == "centre":
            decode.check_shorter_side(spec.size, spec.shorter_side)
        elif spec.crop == "random":
            decode.check_shorter_side(spec.size, spec.shorter_side, "config.data.crop to another crop")
        self.spec = spec
        self._source = sources.select(spec) if source is None else source
        self._reader = pipeline.Reader(self._source, spec)
        self._pools: dict[tuple, tuple[Any, prefetch.Pool]] = {}
        self._corrupt: set[int] = set()  # examples that were reported
        self._told = False  # whether the memory of the batches was reported

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by label."""
        return self._source.class_names

    def __len__(self) -> int:
        return len(self._source)

    def describe(self, index: int) -> str:
        """Returns the name of an example for people: its path, or `split[index]`."""
        return self._source.describe(index)

    def record(self) -> dict[str, Any]:
        """Returns what tells these examples from any others, as JSON values."""
        return self._source.record()

    def take(self, numbers: np.ndarray) -> "Dataset":
        """Returns the examples of some numbers as a data set, which is closed for itself."""
        return Dataset(self.spec, self._source.take(numbers))

    def without(self, other: "Dataset") -> "Dataset":
        """Returns the examples that are not in another data set, as a data set, which is closed for itself."""
        return Dataset(self.spec, self._source.without(other._source))

    def numbers_in(self, other: "Dataset") -> np.ndarray | None:
        """Returns for each example its number in another data set, int64 (examples,).

        Returns None if an example is not there, or if its image is made there in another way or its label is another.
        """
        same = self.spec.made == other.spec.made and self.class_names == other.class_names
        return self._source.numbers_in(other._source) if same else None

    def occurring(self) -> tuple[int, ...]:
        """Returns the labels that its examples have, sorted. All labels are read."""
        return tuple(sorted({label for number in range(len(self)) for label in self._source.labels(number)}))

    def shots(self, count: int, draws: int, left_out: Collection[int] = ()) -> np.ndarray:
        """Returns the numbers of `count` examples of each class, drawn at random, int64 (draws, classes, count).

        A draw depends on the seed of the spec, its number and the examples alone, and with a larger `count` it begins
        with the same examples. Only as many labels are read as that takes.

        Args:
            count: the number of examples of each class.
            draws: the number of draws.
            left_out: numbers of examples that are not drawn; others take their places.

        Raises:
            UserError: a class has fewer than `count` examples, or an example has not one class.
        """
        return draw.shots(self._source, self.spec, count, draws, left_out)

    def batches(self, batch_size: int, *, start_step: int = 0, rows: Sequence[int] | None = None) -> Generator[Batch]:
        """Returns endless batches in the shuffled order, from global batch `start_step` on, to train on.

        Args:
            batch_size: of the global batch.
            start_step: the first batch to yield; batch k is the same whatever it is.
            rows: numbers of the rows of the global batch to yield, sorted; by default an equal contiguous share for
                each JAX process.

        Yields:
            `image` uint8 (batch, height, width_px, 3); `mask` float32 (batch,), all 1; `index` int64 (batch,), the
            number of the example in the data set; and the labels: `label` int32 (batch,), the class, if
            `spec.max_labels` is 1; `labels` int32 (batch, max_labels), filled up with -1, if it is larger.

        Raises:
            UserError: the rows can't be shared; later, with `spec.corrupt="fail"`, an image can't be read.
        """
        return self._run(pipeline.TrainingBatch, batch_size, rows, range(start_step, sys.maxsize))

    def examples(self, batch_size: int, *, rows: Sequence[int] | None = None) -> Generator[Batch]:
        """Returns each example exactly once, in order.

        Every process yields equally many batches. Rows of the last batch that are left over, and images that can't be
        read, have `mask` 0, zeros as `image` and -1 as labels; the former have -1 as `index`, too.

        Args:
            batch_size: as of `batches`.
            rows: as of `batches`.

        Yields:
            The same keys as `batches`.

        Raises:
            UserError: as `batches`.
        """
        return self._run(pipeline.ExamplesBatch, batch_size, rows, range(-(-len(self) // batch_size)))

    def close(self) -> None:
        """Ends the threads and worker processes."""
        for _, pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def _run(
        self, make: Callable[..., Any], batch_size: int, rows: Sequence[int] | None, numbers: range
    ) -> Generator[Batch]:
        """Returns the batches of some numbers, made ahead of time."""
        chosen = tuple(_rows(batch_size, rows))
        key = (make, batch_size, chosen)
        if key not in self._pools:
            maker = make(self._reader, chosen, batch_size)
            workers = min(self.spec.workers, len(numbers))
            self._pools[key] = maker, prefetch.Pool(maker, self.spec.threads, workers)
        maker, pool = self._pools[key]
        return self._reported(pool.map(numbers), maker.fate, pool)

    def _reported(self, made: prefetch.Prefetched, fate: str, pool: prefetch.Pool) -> Generator[Batch]:
        """Yields the batches, and reports their memory once and each corrupt example once."""
        try:
            for batch, corrupt in made:
                if self.spec.section == "data" and not self._told:
                    self._told = True
                    size = sum(array.nbytes for array in batch.values()) / 1e6
                    who = f"{pool.workers} worker processes" if pool.workers else f"{self.spec.threads} threads"
                    _LOG.info("%s make the batches; up to %d wait in memory, %.1f MB each", who, pool.ahead, size)
                for index, reason in corrupt:
                    if index not in self._corrupt:
                        self._corrupt.add(index)
                        _LOG.warning(
                            "%s can't be read (%s) and is %s; corrupt so far: %d",
                            self._source.describe(index),
                            reason,
                            fate,
                            len(self._corrupt),
                        )
                yield batch
        finally:
            made.close()


def open(spec: Spec) -> Dataset:
    """Returns the data set of a spec; `training_spec` and `evaluation_spec` make one from a config.

    Raises:
        UserError: see `Dataset`.
    """
    return Dataset(spec)


def _rows(batch_size: int, rows: Sequence[int] | None) -> list[int]:
    if rows is not None:
        return [int(row) for row in rows]
    import jax

    count = jax.process_count()
    if batch_size % count:
        raise UserError(
            f"a batch of {batch_size} images can't be shared equally by {count} processes; choose a multiple of {count}"
        )
    share = batch_size // count
    first = jax.process_index() * share
    return list(range(first, first + share))
