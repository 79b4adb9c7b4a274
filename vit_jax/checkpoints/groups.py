"""Correspondences between a file's arrays and a model's parameters, array by array, in both directions.

A format lists for an architecture its groups: some arrays of the file and the parameters, by published name, that they
hold. Everything else follows from the list: what is missing, left over or misshapen, reading, writing, conversion.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vit_jax.checkpoints.containers import Container, Shape, is_float
from vit_jax.errors import UserError

Arrays = tuple[np.ndarray, ...]
_LOG = logging.getLogger(__name__)


class Group(NamedTuple):
    """Arrays of a file and the parameters that they hold."""

    files: Mapping[str, Shape]  # names in the file
    names: tuple[str, ...]  # published names
    read: Callable[..., Arrays]  # the file's arrays -> parameters
    write: Callable[..., Arrays]  # parameters -> the file's arrays


def same(file: str, name: str, shape: Shape) -> Group:
    """An array that is a parameter."""
    return Group({file: shape}, (name,), lambda a: (a,), lambda a: (a,))


def reshaped(file: str, file_shape: Shape, name: str, shape: Shape) -> Group:
    """A parameter under another shape."""
    return Group({file: file_shape}, (name,), lambda a: (a.reshape(shape),), lambda a: (a.reshape(file_shape),))


def padding(file: str, shape: Shape) -> Group:
    """An array that the format has and no model here uses: not read, written as zeros."""
    return Group({file: shape}, (), lambda a: (), lambda: (np.zeros(shape, np.float32),))


class Parameters(Mapping[str, np.ndarray]):
    """A file's parameters by published name, read when asked for, so that a file is never in memory as a whole.

    The parameters of a group are read together and kept until each was asked for.
    """

    def __init__(self, container: Container, groups: Iterable[Group], file_names: Mapping[str, str]):
        """`file_names` are the real names of the groups' arrays in the file."""
        self._container, self._file_names = container, file_names
        self._groups = {name: group for group in groups for name in group.names}
        self._ready: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._ready:
            group = self._groups[name]
            read = self._container.read
            arrays = [read(self._file_names[file]).reshape(shape) for file, shape in group.files.items()]
            self._ready.update(zip(group.names, group.read(*arrays), strict=True))
        return self._ready.pop(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


def check(container: Container, groups: Iterable[Group], file_names: Mapping[str, str]) -> None:
    """Raises UserError, listing them, where arrays are missing, left over or of the wrong shape; axes of 1 are free."""
    problems, used = [], set[str]()
    for group in groups:
        for file, shape in group.files.items():
            used.add(file)
            found, kind = container.shapes.get(file_names.get(file, "")), container.types.get(file_names.get(file, ""))
            if found is None and group.names:
                problems.append(f"{file} is missing")
            elif found is not None and tuple(n for n in found if n != 1) != tuple(n for n in shape if n != 1):
                problems.append(f"{file} has shape {found} where {shape} is needed")
            elif kind is not None and not is_float(kind) and group.names:
                problems.append(f"{file} has the type {kind} where floating-point numbers are needed")
    problems += [f"{file_names[file]} is left over" for file in file_names if file not in used]
    refuse(str(container.path), problems)


def refuse(name: str, problems: Sequence[str]) -> None:
    """Raises UserError with what does not fit, the first twenty of it; nothing where there are no problems."""
    if problems:
        short = (problem if len(problem) <= 150 else f"{problem[:100]} …" for problem in problems[:20])
        shown = "; ".join(short) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise UserError(f"{name} does not fit the model: {shown}")


def to_file(
    groups: Sequence[Group], parameters: Mapping[str, np.ndarray], file: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the arrays of `file` one after the other, in the groups' order; warns of those that are not finite."""
    not_finite: dict[str, int] = {}
    for group in groups:
        for name, array in zip(group.files, group.write(*(parameters[name] for name in group.names)), strict=True):
            if count := count_not_finite(array):
                not_finite[name] = count
            yield name, array
    say_not_finite(file, not_finite)


def say_not_finite(file: str, counts: Mapping[str, int]) -> None:
    """Warns where values of a file are not finite; `counts` has the number of them by the name of the array."""
    if counts:
        named = ", ".join(list(counts)[:5]) + (" …" if len(counts) > 5 else "")
        _LOG.warning(
            "%s has %d values in %d arrays that are not finite, so the model's results may not be: %s",
            file,
            sum(counts.values()),
            len(counts),
            named,
        )


def count_not_finite(array: np.ndarray) -> int:
    """Returns how many values are NaN or infinite; the extremes tell at once that there are none."""
    if not array.size or (np.isfinite(array.min()) and np.isfinite(array.max())):
        return 0
    return int(array.size - np.isfinite(array).sum())


def file_shapes(groups: Sequence[Group]) -> dict[str, Shape]:
    return {file: shape for group in groups for file, shape in group.files.items()}
