"""What worker threads and processes do: make whole batches of read, decoded and cropped images.

Everything that is random about an example depends on the seed and its position in the data alone, so that the number of
processes, workers and threads changes nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vit_jax.data import crops, messages, order, shared
from vit_jax.data.selection import Selection
from vit_jax.data.spec import Spec
from vit_jax.errors import UserError

Batch = dict[str, np.ndarray]
Made = tuple[Batch, list[tuple[int, str]]]  # a batch, and (index, reason) of each example that can't be read
Row = tuple[int, tuple[int, ...] | None]  # index, labels; None masks the row
_REMEMBER_BYTES = 64 * 2**20
_REPLACEMENTS = 1000  # so many unreadable images in a row are no accident


class Unreadable(Exception):
    """Why an image can't be read."""


class Reader:
    """Cropped images of a source. Small sets, whose crop is not random, are kept in memory once they are made."""

    def __init__(self, source: Selection, spec: Spec) -> None:
        self.source, self.spec = source, spec
        self._crop = crops.CROPS[spec.crop]
        fits = len(source) * spec.size[0] * spec.size[1] * 3 <= _REMEMBER_BYTES
        self._memory: dict[int, tuple[np.ndarray, tuple[int, ...]] | str] | None = (
            {} if fits and not self._crop.random else None
        )

    def __call__(self, index: int, position: int, out: np.ndarray) -> tuple[int, ...]:
        """Writes the image to `out`, uint8 (height, width_px, 3), and returns its labels.

        Raises:
            Unreadable: the example is corrupt.
        """
        found = self._memory.get(index) if self._memory is not None else None
        if found is None:
            found = self._read(index, position, out)
            if self._memory is not None:
                self._memory[index] = found
        if isinstance(found, str):
            raise Unreadable(found)
        image, labels = found
        if image is not out:
            out[...] = image
        return labels

    def _read(self, index: int, position: int, out: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]] | str:
        """Returns the image and the labels, or the reason why the example can't be read."""
        try:
            example = self.source[index]
            image = self._crop.apply(example["image"], self.spec, position, out)
        except UserError:
            raise
        except Exception as error:  # decoders raise all kinds
            return messages.in_words(error)
        labels, most = example["labels"], self.spec.max_labels
        if most and (len(labels) > most or (most == 1 and not labels)):
            raise UserError(
                f"{self.source.describe(index)} has {len(labels)} labels, and max_labels of config.{self.spec.section} "
                f"is {most}; set it to {max(2, len(labels))} or more"
            )
        return image, labels

    def unreadable(self, index: int, reason: str) -> UserError:
        """Returns the error for an example that must be readable."""
        return UserError(
            f"{self.source.describe(index)} can't be read ({reason}); mend or remove it, or set config.data.corrupt to "
            "replace"
        )


class TrainingBatch:
    """Makes the training batch of a step: row r of batch k is position k * batch_size + r of the data.

    Position p has example p // repeats of the shuffled order. Its crop depends on p, so that repeats differ.
    """

    fate = "replaced by another"  # of an example that can't be read

    def __init__(self, reader: Reader, rows: Sequence[int], batch_size: int) -> None:
        self._reader, self._rows, self._batch_size = reader, rows, batch_size
        self._order = order.mixed(reader.source.shares(), reader.spec.seed)

    def __call__(self, step: int) -> Made:
        rows: list[Row] = []
        corrupt: list[tuple[int, str]] = []
        images = _empty(self._rows, self._reader.spec)
        for global_row, image in zip(self._rows, images, strict=True):
            position = step * self._batch_size + global_row
            index = self._order[position // self._reader.spec.repeats]
            row, unreadable = self._readable(index, position, image)
            rows.append(row)
            corrupt.extend(unreadable)
        return _collated(rows, images, self._reader.spec.max_labels), corrupt

    def _readable(self, index: int, position: int, out: np.ndarray) -> tuple[Row, list[tuple[int, str]]]:
        """Writes the example `index` to `out`, or else the next one in the source that can be read."""
        length = len(self._reader.source)
        unreadable: list[tuple[int, str]] = []
        for offset in range(min(length, _REPLACEMENTS)):
            candidate = (index + offset) % length
            try:
                return (candidate, self._reader(candidate, position, out)), unreadable
            except Unreadable as error:
                if self._reader.spec.corrupt == "fail":
                    raise self._reader.unreadable(candidate, str(error)) from error
                unreadable.append((candidate, str(error)))
        raise UserError(
            f"none of {len(unreadable)} images in a row can be read, the last "
            f"{self._reader.source.describe(candidate)} ({unreadable[-1][1]}); check the data set"
        )


class ExamplesBatch:
    """Makes batch k of all examples in order: row r is example k * batch_size + r."""

    fate = "left out"

    def __init__(self, reader: Reader, rows: Sequence[int], batch_size: int) -> None:
        self._reader, self._rows, self._batch_size = reader, rows, batch_size

    def __call__(self, number: int) -> Made:
        rows: list[Row] = []
        corrupt: list[tuple[int, str]] = []
        images = _empty(self._rows, self._reader.spec)
        for global_row, image in zip(self._rows, images, strict=True):
            index = number * self._batch_size + global_row
            if index >= len(self._reader.source):
                image[...] = 0
                rows.append((-1, None))
                continue
            try:
                rows.append((index, self._reader(index, index, image)))
            except Unreadable as error:
                if self._reader.spec.corrupt == "fail":
                    raise self._reader.unreadable(index, str(error)) from error
                image[...] = 0
                rows.append((index, None))
                corrupt.append((index, str(error)))
        return _collated(rows, images, self._reader.spec.max_labels), corrupt


def label_shapes(max_labels: int, batch_size: int) -> dict[str, tuple[int, ...]]:
    """Returns the shape of the labels in a batch, int32, by their key; empty for data without labels."""
    if max_labels == 0:
        return {}
    return {"label": (batch_size,)} if max_labels == 1 else {"labels": (batch_size, max_labels)}


def _empty(rows: Sequence[int], spec: Spec) -> np.ndarray:
    return shared.empty((len(rows), *spec.size, 3))


def _collated(rows: Sequence[Row], images: np.ndarray, max_labels: int) -> Batch:
    indices, labels = zip(*rows, strict=True)
    batch: dict[str, Any] = {
        "image": images,  # the first, see `shared.empty`
        "mask": np.array([row is not None for row in labels], np.float32),
        "index": np.array(indices, np.int64),
    }
    for key, shape in label_shapes(max_labels, len(rows)).items():
        filled = [[*(row or ()), *[-1] * (max_labels - len(row or ()))] for row in labels]
        batch[key] = np.array(filled, np.int32).reshape(shape)
    return batch
