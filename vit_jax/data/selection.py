"""Examples by number: one protocol for all kinds of data sets, and a choice of examples of several."""

import dataclasses
import functools
from typing import Any, Protocol

import numpy as np

from vit_jax.errors import UserError


class Source(Protocol):
    """Numbered examples with labels: a whole split of a data set (a base split), or a `Selection` of such splits.

    Sources are sent to worker processes, and therefore must allow pickling.
    """

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def identity(self) -> str:
        """Equal for two sources of the same examples."""
        ...

    def record(self) -> dict[str, Any]:
        """Returns what tells its examples from any others, as JSON values, without reading images."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns `image`, a file's bytes or an array uint8 (height, width_px, channels), and `labels` as below."""
        ...

    def labels(self, index: int) -> tuple[int, ...]:
        """Returns the numbers of the example's classes."""
        ...

    def describe(self, index: int) -> str:
        """Returns the name of the example for messages: a path, or `split[index]`."""
        ...


@dataclasses.dataclass(frozen=True)
class Selection:
    """Some examples of some base splits, itself a source; example i is number `indices[i]` of `parts[which[i]]`."""

    parts: tuple[Source, ...]
    which: np.ndarray  # unsigned (examples,)
    indices: np.ndarray  # int32 (examples,)
    class_names: tuple[str, ...]
    members: tuple[int, ...] = ()  # of a mixture: for each part, the number of the data set that it is a part of
    weights: tuple[float, ...] = (1.0,)  # of a mixture: for each of its data sets, which follow each other

    @property
    def identity(self) -> str:
        return "+".join(part.identity for part in self.parts)

    def record(self) -> dict[str, Any]:
        found = {
            "num_examples": len(self),
            "class_names": list(self.class_names),
            "parts": [part.record() for part in self.parts],
        }
        mixed = {"mixture": [[*share] for share in self.shares()]} if len(self.weights) > 1 else {}
        return {**found, **mixed}

    def shares(self) -> list[tuple[int, float]]:
        """Returns the number of examples and the weight of each data set of a mixture; one pair if there is none."""
        if len(self.weights) == 1:
            return [(len(self), self.weights[0])]
        counts = np.bincount(np.array(self.members)[self.which], minlength=len(self.weights))
        return list(zip(counts.tolist(), self.weights, strict=True))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._part(index)[int(self.indices[index])]
        return {"image": example["image"], "labels": self._numbered(index, example["labels"])}

    def labels(self, index: int) -> tuple[int, ...]:
        return self._numbered(index, self._part(index).labels(int(self.indices[index])))

    def describe(self, index: int) -> str:
        return self._part(index).describe(int(self.indices[index]))

    def take(self, chosen: np.ndarray) -> "Selection":
        """Returns the examples of some numbers, or those where a mask is true."""
        return dataclasses.replace(self, which=self.which[chosen], indices=self.indices[chosen])

    def without(self, other: "Selection") -> "Selection":
        """Returns the examples that are not in another selection."""
        kept = np.ones(len(self), bool)
        for mine, part in enumerate(self.parts):
            for theirs, part_of_other in enumerate(other.parts):
                if part.identity == part_of_other.identity:
                    taken = other.indices[other.which == theirs]
                    kept &= (self.which != mine) | ~np.isin(self.indices, taken)
        return self.take(kept)

    def numbers_in(self, other: "Selection") -> np.ndarray | None:
        """Returns for each example its number in another selection, int64 (examples,); None if one is not there."""
        theirs = {part.identity: number for number, part in enumerate(other.parts)}
        numbers = np.array([theirs.get(part.identity, -1) for part in self.parts], np.int64)
        wanted = (numbers[self.which] << 32) + self.indices
        there = (other.which.astype(np.int64) << 32) + other.indices
        order = np.argsort(there)
        found = order[np.minimum(np.searchsorted(there, wanted, sorter=order), len(there) - 1)]
        return found if np.array_equal(there[found], wanted) else None

    def _part(self, index: int) -> Source:
        return self.parts[self.which[index]]

    def _numbered(self, index: int, labels: tuple[int, ...]) -> tuple[int, ...]:
        """Returns a part's labels as numbers in `class_names`, without those of classes that are not taken."""
        table = self._tables[self.which[index]]
        for label in labels:
            if not 0 <= label < len(table):
                raise UserError(
                    f"{self.describe(index)} has the label {label}, which is none of the data set's {len(table)} "
                    "classes; choose a split with labels"
                )
        return tuple(table[label] for label in labels if table[label] >= 0)

    @functools.cached_property
    def _tables(self) -> list[list[int]]:
        """For each part, its labels as numbers in `class_names`; -1 for a class that is not taken."""
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return [[numbers.get(name, -1) for name in part.class_names] for part in self.parts]
