"""The sizes of well-known data sets and tasks.

They are needed to convert epochs to steps and to plan a run before, or without, downloading the data set.
"""

from collections.abc import Callable, Mapping

from vit_jax.data import splits
from vit_jax.data.catalog import datasets, vtab
from vit_jax.data.catalog.datasets import DIGITS, IMAGENET_TESTS
from vit_jax.data.catalog.entry import Entry, Label, no_split
from vit_jax.errors import UserError

__all__ = [
    "DIGITS",
    "ENTRIES",
    "IMAGENET_TESTS",
    "Entry",
    "Label",
    "dataset_of",
    "find",
    "first_split",
    "resolve",
    "vtab",
]

ENTRIES: Mapping[str, Entry] = {**datasets.ENTRIES, **vtab.ENTRIES}


def find(name: str) -> Entry | None:
    """Returns the entry of the data set `name`, or None. A version in the name (`cifar10:3.0.2`) is ignored.

    Raises:
        UserError: `name` is that of a VTAB task that does not exist.
    """
    name = name.partition(":")[0]
    if name.startswith(vtab.PREFIX) and name not in ENTRIES:
        task = name.removeprefix(vtab.PREFIX)
        raise UserError(f"VTAB has no task {task!r}; write {vtab.PREFIX} before one of {', '.join(vtab.TASKS)}")
    return ENTRIES.get(name)


def dataset_of(name: str) -> str:
    """Returns the name of a data set in TensorFlow Datasets, with the version that `name` has."""
    entry, version = find(name), name.partition(":")[2]
    return ":".join(filter(None, (entry.dataset, version))) if entry and entry.dataset else name


def resolve(name: str, split: str, length_of: Callable[[str], int]) -> list[tuple[str, range]]:
    """Returns the positions in base splits that a split of the data set `name` has; see `splits.resolve`.

    Raises:
        UserError: as `splits.resolve`; or the data set has no such split.
    """
    made = _made(name)
    for piece in splits.parse(split):
        if made and piece.name not in made:
            raise no_split(name, piece.name, made)
    return splits.resolve(split, length_of, made)


def first_split(name: str, split: str) -> str:
    """Returns the first base split that a split of the data set `name` is made of."""
    first = splits.parse(split)[0].name
    return splits.parse(_made(name).get(first, first))[0].name


def _made(name: str) -> Mapping[str, str]:
    entry = find(name)
    return entry.made if entry else {}
