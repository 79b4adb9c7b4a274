"""Groups: which arrays of a file hold which parameters of a model, and how each is computed from the other.

A format describes an architecture by a list of groups. A group consists of some arrays of the file, the parameters that
they hold, by published name, and two functions that convert them in either direction. Reading, writing, converting and
checking a file all use the same list.
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
    """Some arrays of a file and the parameters that they hold."""

    files: Mapping[str, Shape]  # the arrays' names and shapes in the file
    names: tuple[str, ...]  # the parameters' published names
    read: Callable[..., Arrays]  # computes the parameters, in the order of `names`, from the arrays
    write: Callable[..., Arrays]  # computes the arrays, in the order of `files`, from the parameters


def same(file: str, name: str, shape: Shape) -> Group:
    """Returns the group of an array that is a parameter, with the same shape."""
    return Group({file: shape}, (name,), lambda a: (a,), lambda a: (a,))


def reshaped(file: str, file_shape: Shape, name: str, shape: Shape) -> Group:
    """Returns the group of a parameter that the file holds in another shape."""
    return Group({file: file_shape}, (name,), lambda a: (a.reshape(shape),), lambda a: (a.reshape(file_shape),))


def padding(file: str, shape: Shape) -> Group:
    """Returns the group of an array of the format that no model here uses. It is not read, and written as zeros."""
    return Group({file: shape}, (), lambda a: (), lambda: (np.zeros(shape, np.float32),))


class Parameters(Mapping[str, np.ndarray]):
    """The parameters of a file by published name, each read from the file when it is asked for.

    The parameters of one group are read together. Each is kept until it is asked for, and then forgotten, so that the
    file is never in memory as a whole.
    """

    def __init__(self, container: Container, groups: Iterable[Group], file_names: Mapping[str, str]):
        """Takes an open file, its groups, and the name in the file of each array that the groups name.

        The two names differ if the file has a prefix before all names, for example.
        """
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
    """Raises UserError if arrays of a file are missing, left over, not floating-point or of the wrong shape.

    The message lists them. Axes of size 1 are ignored when shapes are compared. An array that no parameter needs may be
    missing. The arguments are those of `Parameters`.
    """
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
    """Raises UserError if there are problems; the message lists the first twenty. `name` is what has the problems."""
    if problems:
        short = (problem if len(problem) <= 150 else f"{problem[:100]} …" for problem in problems[:20])
        shown = "; ".join(short) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise UserError(f"{name} does not fit the model: {shown}")


def to_file(
    groups: Sequence[Group], parameters: Mapping[str, np.ndarray], file: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the names and arrays to write to a file, one after the other, in the order of the groups.

    Logs a warning at the end if some values are not finite. `file` is what the warning calls the file.
    """
    not_finite: dict[str, int] = {}
    for group in groups:
        for name, array in zip(group.files, group.write(*(parameters[name] for name in group.names)), strict=True):
            if count := count_not_finite(array):
                not_finite[name] = count
            yield name, array
    say_not_finite(file, not_finite)


def say_not_finite(file: str, counts: Mapping[str, int]) -> None:
    """Logs a warning if some values of a file are not finite; `counts` is their number by the name of the array."""
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
    """Returns how many values of an array are NaN or infinite."""
    # Both extremes are finite only if all values are: this makes the usual case fast, without a mask of the array.
    if not array.size or (np.isfinite(array.min()) and np.isfinite(array.max())):
        return 0
    return int(array.size - np.isfinite(array).sum())


def file_shapes(groups: Sequence[Group]) -> dict[str, Shape]:
    """Returns the shapes of the arrays of a file by name, in the order of the groups."""
    return {file: shape for group in groups for file, shape in group.files.items()}
