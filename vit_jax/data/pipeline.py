"""Batches, made whole on the host: read, decode, crop; in threads of this process, or in worker processes.

The data position is the step: row r of global batch k is position k * B + r of one endless shuffled order (order.py),
and everything that is random about an example depends on the seed and this position only. So there is no iterator to
save, and the number of processes, workers and threads changes nothing.
"""

import functools
import logging
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np

from vit_jax import config as config_lib
from vit_jax import streams
from vit_jax.data import about, decode, messages, order, prefetch, sources
from vit_jax.errors import UserError

Batch = dict[str, np.ndarray]
Finish = Callable[[bytes | np.ndarray, int], np.ndarray]  # (image, position) -> uint8 (height, width_px, 3)

_LOG = logging.getLogger(__name__)
_REMEMBER_BYTES = 64 * 2**20
_REPLACEMENTS = 1000  # so many unreadable images in a row are no accident


def batches(config: Any, *, start_step: int = 0, rows: Sequence[int] | None = None) -> Generator[Batch]:
    """Endless training batches, from global batch `start_step` on: this process's share of each.

    `config.preprocessing` is taken as it stands, and what it leaves open at the default: `training.preprocessed`
    fills in the model's, as a run does.

    Args:
        config: a `Config` or a ConfigDict.
        start_step: the first batch to yield; batch k is the same whatever it is.
        rows: numbers of the rows of the global batch to yield, sorted; by default an equal contiguous share for each
            JAX process.

    Yields:
        `image` uint8 (batch, height, width_px, 3); `label` int32 (batch,), the class; `mask` float32 (batch,),
        all 1; `index` int64 (batch,), the number of the example in the training set.

    Raises:
        UserError: the data set is missing or doesn't fit the config; later, with `config.data.corrupt="fail"`, an image
            can't be read.
    """
    config = config_lib.typed(config)
    source = sources.training(config)
    _check_classes(config, source)
    expected = about.from_catalog(config)
    if expected and expected.num_examples != len(source):
        _LOG.warning(
            "%s has %d training examples where %d are known; epochs are counted with the latter",
            config.data.name,
            len(source),
            expected.num_examples,
        )
    size, data, seed = sources.image_size(config), config.data, config.seed
    options = {"interpolation": config.preprocessing.interpolation or "bilinear", "exif": data.exif}
    if data.crop == "inception":
        finish: Finish = functools.partial(_random_crop, size=size, area_min=data.crop_area_min, seed=seed, **options)
    else:
        finish = functools.partial(_whole, size=size, **options)
    make = _TrainingBatch(
        _Reader(source, size, finish, remember=data.crop == "resize"),
        rows=_rows(config.global_batch_size, rows),
        batch_size=config.global_batch_size,
        seed=seed,
        replace=data.corrupt == "replace",
    )
    return _run(make, range(start_step, sys.maxsize), config, source, "replaced by another")


def evaluation_batches(config: Any, name: str, rows: Sequence[int] | None = None) -> Generator[Batch]:
    """The examples of `config.evaluations[name]`, each exactly once, in order: this process's share of each batch.

    `config.preprocessing` is taken as in `batches`.

    Every process yields equally many batches. What is left over in the last one, and images that can't be read, have
    `mask` 0, zeros as `image` and -1 as `label`; the former have -1 as `index`, too.

    Args:
        config: a `Config` or a ConfigDict.
        name: of the evaluation.
        rows: as of `batches`.

    Yields:
        The same keys as `batches`.

    Raises:
        UserError: as `batches`, or there is no such evaluation.
    """
    config = config_lib.typed(config)
    section, settings = sources.section_of(config, name), config.preprocessing
    size, shorter_side = sources.image_size(config), _shorter_side(config, name)
    source = sources.evaluation(config, name)
    _check_classes(config, source)
    batch_size = section.batch_size or config.global_batch_size
    finish = functools.partial(
        _whole,
        size=size,
        shorter_side=shorter_side,
        keep_aspect=settings.keep_aspect is not False,
        interpolation=settings.interpolation or "bilinear",
        exif=config.data.exif,
    )
    make = _EvaluationBatch(
        _Reader(source, size, finish, remember=False),
        rows=_rows(batch_size, rows),
        batch_size=batch_size,
        masked=config.data.corrupt == "replace",
    )
    return _run(make, range(-(-len(source) // batch_size)), config, source, "left out")


def evaluation_examples(config: Any, name: str) -> int:
    """How many examples `config.evaluations[name]` has. Raises UserError as `evaluation_batches`."""
    config = config_lib.typed(config)
    _shorter_side(config, name)
    return len(sources.evaluation(config, name))


def _shorter_side(config: config_lib.Config, name: str) -> int | None:
    """The evaluation's own, else the model's; None to resize the whole image. Raises UserError if it is too small."""
    own = sources.section_of(config, name).shorter_side
    shorter_side = (config.preprocessing.shorter_side if own is None else own) or None
    decode.check_shorter_side(sources.image_size(config), shorter_side)
    return shorter_side


class _Reader:
    """Finished examples of a source; where they are few and don't depend on the position, they are remembered."""

    def __init__(self, source: sources.Source, size: decode.Size, finish: Finish, remember: bool) -> None:
        self.source, self.size, self._finish = source, size, finish
        fits = len(source) * size[0] * size[1] * 3 <= _REMEMBER_BYTES
        self._memory: dict[int, tuple[np.ndarray, int] | str] | None = {} if remember and fits else None

    def __call__(self, index: int, position: int) -> tuple[np.ndarray, int]:
        """The image and the label.

        Raises:
            _Unreadable: the example is corrupt.
        """
        found = self._memory.get(index) if self._memory is not None else None
        if found is None:
            found = self._read(index, position)
            if self._memory is not None:
                self._memory[index] = found
        if isinstance(found, str):
            raise _Unreadable(found)
        return found

    def _read(self, index: int, position: int) -> tuple[np.ndarray, int] | str:
        """The image and the label, or why the example can't be read."""
        try:
            example = self.source[index]
            return self._finish(example["image"], position), example["label"]
        except UserError:
            raise
        except Exception as error:  # decoders raise all kinds
            return messages.in_words(error)


class _Unreadable(Exception):
    """Why an image can't be read."""


class _TrainingBatch:
    """Makes the batch of a step."""

    def __init__(self, reader: _Reader, rows: list[int], batch_size: int, seed: int, replace: bool) -> None:
        self._reader, self._rows, self._batch_size = reader, rows, batch_size
        self._order = order.shuffled(len(reader.source), seed)
        self._replace = replace

    def __call__(self, step: int) -> dict:
        rows, corrupt = [], []
        for global_row in self._rows:
            position = step * self._batch_size + global_row
            *row, unreadable = self._readable(self._order[position], position)
            rows.append(row)
            corrupt.extend(unreadable)
        return {**_collated(rows), "corrupt": tuple(corrupt)}

    def _readable(self, index: int, position: int) -> tuple[int, np.ndarray, int, list[tuple[int, str]]]:
        """The example `index`, or else the next one in the source that can be read."""
        length = len(self._reader.source)
        unreadable: list[tuple[int, str]] = []
        for offset in range(min(length, _REPLACEMENTS)):
            candidate = (index + offset) % length
            try:
                return candidate, *self._reader(candidate, position), unreadable
            except _Unreadable as error:
                if not self._replace:
                    raise _unreadable(self._reader.source, candidate, str(error)) from error
                unreadable.append((candidate, str(error)))
        raise UserError(
            f"none of {len(unreadable)} images in a row can be read, the last "
            f"{self._reader.source.describe(candidate)} ({unreadable[-1][1]}); check the data set"
        )


class _EvaluationBatch:
    """Makes the batch of a number."""

    def __init__(self, reader: _Reader, rows: list[int], batch_size: int, masked: bool) -> None:
        self._reader, self._rows, self._batch_size = reader, rows, batch_size
        self._masked = masked

    def __call__(self, number: int) -> dict:
        rows, corrupt = [], []
        nothing = np.zeros((*self._reader.size, 3), np.uint8)
        for global_row in self._rows:
            index = number * self._batch_size + global_row
            if index >= len(self._reader.source):
                rows.append((-1, nothing, -1))
                continue
            try:
                rows.append((index, *self._reader(index, index)))
            except _Unreadable as error:
                if not self._masked:
                    raise _unreadable(self._reader.source, index, str(error)) from error
                rows.append((index, nothing, -1))
                corrupt.append((index, str(error)))
        return {**_collated(rows), "corrupt": tuple(corrupt)}


def _collated(rows: Sequence[Sequence[Any]]) -> Batch:
    """A batch of (index, image, label); the label -1 is masked."""
    indices, images, labels = zip(*rows, strict=True)
    numbers = np.array(labels, np.int32)
    return {
        "image": np.stack(images),
        "label": numbers,
        "mask": (numbers >= 0).astype(np.float32),
        "index": np.array(indices, np.int64),
    }


def _whole(image: bytes | np.ndarray, position: int, *, size: decode.Size, **options: Any) -> np.ndarray:
    return decode.for_evaluation(image, size, **options)


def _random_crop(
    image: bytes | np.ndarray, position: int, *, size: decode.Size, area_min: float, seed: int, **options: str
) -> np.ndarray:
    rng = streams.generator(seed, "crop", position)
    return decode.random_crop(image, size, area_min, rng, **options)


def _unreadable(source: sources.Source, index: int, reason: str) -> UserError:
    return UserError(
        f"{source.describe(index)} can't be read ({reason}); mend or remove it, or set config.data.corrupt to replace"
    )


def _run(
    make: Callable[[int], dict], numbers: range, config: config_lib.Config, source: sources.Source, fate: str
) -> Generator[Batch]:
    """Makes the batches ahead of time and reports each corrupt example once."""
    made = prefetch.Prefetched(make, numbers, config.data.threads, min(config.data.workers, len(numbers)))
    return _reported(made, source, fate)


def _reported(made: Iterator[dict], source: sources.Source, fate: str) -> Generator[Batch]:
    seen: set[int] = set()
    for batch in made:
        for index, reason in batch.pop("corrupt"):
            if index not in seen:
                seen.add(index)
                _LOG.warning(
                    "%s can't be read (%s) and is %s; corrupt so far: %d",
                    source.describe(index),
                    reason,
                    fate,
                    len(seen),
                )
        yield batch


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


def _check_classes(config: config_lib.Config, source: sources.Source) -> None:
    """Raises UserError if the model has fewer classes than the data set."""
    classes, found = config.model.num_classes, len(source.class_names)
    if classes is not None and classes < found:
        raise UserError(
            f"config.model.num_classes is {classes}, and the data set {config.data.name} has {found} classes; set it "
            f"to {found} or more, or leave it out"
        )
