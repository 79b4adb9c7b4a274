"""Splits: `train`, `train[:90%]`, `test[100:200]`, joined by `+`.

The syntax and the rounding are those of TensorFlow Datasets, read here so that they hold for every source, and so that
each example keeps its identity: a split is resolved to positions in its base splits.
"""

import dataclasses
import re
from collections.abc import Callable

from vit_jax.errors import UserError

_NUMBER = r"\s*(-?\d[\d_]*%?)?\s*"
_PIECE = re.compile(rf"\s*([\w.-]+)\s*(\[{_NUMBER}:{_NUMBER}\])?\s*")


@dataclasses.dataclass(frozen=True)
class Piece:
    """One part of a split: the base split `name` from `start` to `stop`, each a number, a percentage or open."""

    name: str
    start: str | None = None
    stop: str | None = None

    def positions(self, length: int) -> range:
        """The positions in a base split of `length` examples.

        Raises:
            UserError: a bound lies outside the base split.
        """
        return range(self._bound(self.start, 0, length), self._bound(self.stop, length, length))

    def _bound(self, text: str | None, default: int, length: int) -> int:
        if text is None:
            return default
        percent = text.endswith("%")
        bound = round(int(text[:-1]) * length / 100) if percent else int(text)
        if not -length <= bound <= length:
            raise UserError(
                f"the split {self.name} has {length} examples, so {text} in its slice [a:b] lies outside of it"
            )
        return bound + length if text.startswith("-") else bound


def parse(split: str) -> tuple[Piece, ...]:
    """The pieces of `split`.

    Raises:
        UserError: it doesn't follow the syntax.
    """
    pieces = []
    for text in split.split("+"):
        match = _PIECE.fullmatch(text)
        if not match:
            raise UserError(
                f"can't read the split {split!r}; write a name, with a slice if you like, such as train[:90%] or "
                "train[100:200], and join several by +"
            )
        pieces.append(Piece(match[1], match[3], match[4]))
    return tuple(pieces)


def resolve(split: str, length_of: Callable[[str], int]) -> list[tuple[str, range]]:
    """(base split, positions in it) of each piece of `split`; `length_of` counts the examples of a base split.

    Raises:
        UserError: wrong syntax, a slice outside of its split, or no example at all.
    """
    resolved = [(piece.name, piece.positions(length_of(piece.name))) for piece in parse(split)]
    if not any(positions for _, positions in resolved):
        raise UserError(f"the split {split!r} holds no example; choose wider bounds")
    return resolved
