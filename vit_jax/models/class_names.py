"""The names of a head's outputs."""

from collections.abc import Sequence


def padded(names: Sequence[str], count: int) -> tuple[str, ...]:
    """Returns a name for each of `count` outputs: those of the data's classes, then `unused N` for output N.

    A head may have more outputs than the data has classes (`config.model.num_classes`), and a model file has a name for
    each or none at all.
    """
    return (*names, *(f"unused {number}" for number in range(len(names), count)))
