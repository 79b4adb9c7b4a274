"""Correspondences between a file's arrays and a model's parameters, array by array, in both directions.

A format lists for an architecture its groups: some arrays of the file and the parameters, by published name, that they
hold. Everything else follows from the list: what is missing, left over or misshapen, reading, writing, conversion.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vit_jax.checkpoints.containers import Container, Shape
from vit_jax.errors import UserError

Arrays = tuple[np.ndarray, ...]


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
            found = container.shapes.get(file_names.get(file, ""))
            if found is None and group.names:
                problems.append(f"{file} is missing")
            elif found is not None and tuple(n for n in found if n != 1) != tuple(n for n in shape if n != 1):
                problems.append(f"{file} has shape {found} where {shape} is needed")
    problems += [f"{file_names[file]} is left over" for file in file_names if file not in used]
    refuse(str(container.path), problems)


def refuse(name: str, problems: Sequence[str]) -> None:
    """Raises UserError with what does not fit, the first twenty of it; nothing where there are no problems."""
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise UserError(f"{name} does not fit the model: {shown}")


def to_file(groups: Sequence[Group], parameters: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The file's arrays one after the other, in the groups' order."""
    for group in groups:
        yield from zip(group.files, group.write(*(parameters[name] for name in group.names)), strict=True)


def file_shapes(groups: Sequence[Group]) -> dict[str, Shape]:
    return {file: shape for group in groups for file, shape in group.files.items()}
