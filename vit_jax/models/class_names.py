"""The names of the outputs of a model's head."""

from collections.abc import Sequence


def padded(names: Sequence[str], count: int) -> tuple[str, ...]:
    """Returns names for the `count` outputs of a head: all of `names`, then `unused N` for each further output N.

    A head may have more outputs (`config.model.num_classes`) than the data has classes, but a model file must name
    either all outputs or none.
    """
    return (*names, *(f"unused {number}" for number in range(len(names), count)))
