"""Mixtures: several data sets that are trained on together, each with a weight."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from vit_jax.data.selection import Selection
from vit_jax.data.spec import Spec
from vit_jax.errors import UserError


def members(spec: Spec) -> list[Spec]:
    """Returns the data sets of a spec, each alone: one if it is no mixture."""
    return [spec.alone(), *spec.mixed]


@contextlib.contextmanager
def naming(number: int, member: Spec) -> Iterator[None]:
    """Returns a context in which an error says of which entry of `config.data.mixture` it is; number 0 is of none."""
    try:
        yield
    except UserError as error:
        if not number:
            raise
        raise UserError(f"config.data.mixture[{number - 1}] is {member.name}: {error}") from error


def joined_names(titles: Sequence[str], names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the classes of several data sets together: those of the first, then those that each further one adds.

    Classes of the same name are one class.

    Args:
        titles: the names of the data sets, for the error.
        names: the names of the classes of each of them.

    Raises:
        UserError: the classes of a data set are numbers instead of names, and another data set has others.
    """
    for title, own in zip(titles, names, strict=True):
        other = next((title for title, others in zip(titles, names, strict=True) if others != own), None)
        if other is not None and own == tuple(map(str, range(len(own)))):
            raise UserError(
                f"the classes of {title} are called by numbers, so nothing tells which of them are classes of {other}, "
                "too; mix data sets whose classes have names, or the same numbers"
            )
    return tuple(dict.fromkeys(name for own in names for name in own))


def join(selections: Sequence[Selection], weights: Sequence[float]) -> Selection:
    """Returns the examples of several data sets, one after another, as a mixture with some weights.

    Args:
        selections: the examples of each data set, all with the same `class_names`.
        weights: of each.
    """
    parts = tuple(part for selection in selections for part in selection.parts)
    kind = np.min_scalar_type(len(parts))
    which, before = [], 0
    for selection in selections:
        which.append(selection.which.astype(kind) + kind.type(before))
        before += len(selection.parts)
    return Selection(
        parts=parts,
        which=np.concatenate(which),
        indices=np.concatenate([selection.indices for selection in selections]),
        class_names=selections[0].class_names,
        members=tuple(number for number, selection in enumerate(selections) for _ in selection.parts),
        weights=tuple(weights),
    )


def check(selection: Selection, spec: Spec) -> Selection:
    """Returns `selection`. Raises UserError if a data set of the mixture has no examples in it."""
    for member, (count, _) in zip(members(spec), selection.shares(), strict=True):
        if not count and spec.mixed:
            raise UserError(
                f"no images of {member.name}, split {member.split}, are left to mix by config.data.mixture; leave it "
                "out, or choose more images or classes"
            )
    return selection
