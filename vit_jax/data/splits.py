"""Parses splits such as `train`, `train[:90%]`, `test[100:200]` and sums of them, such as `train+test`.

The syntax and the rounding of percentages are those of TensorFlow Datasets (TFDS). They are implemented here so that
they work for data from other sources too. A split becomes a list of positions in base splits, such as "train", so two
splits can be compared example by example.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping

from vit_jax.errors import UserError

_NUMBER = r"\s*(-?\d[\d_]*%?)?\s*"
_PIECE = re.compile(rf"\s*([\w.-]+)\s*(\[{_NUMBER}:{_NUMBER}\])?\s*")


@dataclasses.dataclass(frozen=True)
class Piece:
    """One term of a split: the examples of the base split `name` from `start` up to, but not including, `stop`.

    A bound is a number ("100"), a percentage of the base split ("90%"), either of them negative to count from the end,
    or None for no bound.
    """

    name: str
    start: str | None = None
    stop: str | None = None

    def positions(self, length: int) -> range:
        """Returns the positions of the examples in a base split that has `length` examples.

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
    """Returns the pieces of `split`.

    Raises:
        UserError: `split` does not follow the syntax.
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


def resolve(
    split: str, length_of: Callable[[str], int], made: Mapping[str, str] | None = None
) -> list[tuple[str, range]]:
    """Returns pairs (name of a base split, positions in it), one for each piece of `split` and what it is made of.

    Args:
        split: such as `train[:90%]+test`.
        length_of: returns the number of examples in the base split of a given name.
        made: splits by name that are made of base splits; others are base splits themselves.

    Raises:
        UserError: `split` does not follow the syntax, a bound lies outside its split, or there are no examples.
    """
    resolved: list[tuple[str, range]] = []
    for piece in parse(split):
        if made and piece.name in made:
            parts = resolve(made[piece.name], length_of)
        else:
            parts = [(piece.name, range(length_of(piece.name)))]
        resolved += _cut(parts, piece.positions(sum(len(positions) for _, positions in parts)))
    if not any(positions for _, positions in resolved):
        raise UserError(f"the split {split!r} holds no example; choose wider bounds")
    return resolved


def _cut(parts: list[tuple[str, range]], wanted: range) -> list[tuple[str, range]]:
    """Returns of some parts, one after another, those positions whose numbers are `wanted`."""
    found, before = [], 0
    for name, positions in parts:
        start, stop = (min(max(bound - before, 0), len(positions)) for bound in (wanted.start, wanted.stop))
        found.append((name, positions[start:stop]))
        before += len(positions)
    return found
