"""Checks and converts values by type and limits; for the keys of a config and for the JSON beside a checkpoint."""

import dataclasses
import itertools
import math
import types
import typing
from collections.abc import Sequence
from typing import Any

MOST = 2**31 - 1  # steps, rows and sizes are int32 on devices


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a value may be, apart from its type: one of `choices`, or finite numbers within bounds.

    Choices and bounds also apply to the items of a tuple, which has at least `fewest` of them.
    """

    choices: tuple[str, ...] = ()
    least: float | None = None  # the bound itself is allowed
    above: float | None = None  # the bound itself is not allowed
    below: float | None = None  # the bound itself is not allowed
    most: float | None = None  # the bound itself is allowed
    fewest: int = 0

    def wrong(self, value: Any) -> str:
        """Returns what `value` must be instead, such as `it must be at least 1`, or "" if it is within the limits."""
        if self.choices and any(leaf not in self.choices for leaf in leaves(value)):
            return f"it can {'hold' if isinstance(value, tuple) else 'be'} {either(self.choices)}"
        if isinstance(value, tuple) and len(value) < self.fewest:
            return f"it must hold at least {self.fewest}"
        for number in leaves(value):
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                continue
            if isinstance(number, float) and not math.isfinite(number):
                return "it must be a finite number"
            if self.most is not None and number > self.most:
                return f"it must be at most {self.most}"
            low = (self.least is not None and number < self.least) or (self.above is not None and number <= self.above)
            if low or (self.below is not None and number >= self.below):
                return f"it must be {self._bounds('least', 'above', 'below')}"
            if self.most is None and isinstance(number, int) and abs(number) > MOST:
                return "it must be below 2**31"
        return ""

    def __str__(self) -> str:
        return either(self.choices) if self.choices else self._bounds("least", "above", "below", "most")

    def _bounds(self, *names: str) -> str:
        given = [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]
        return " and ".join(f"{'at ' if name in ('least', 'most') else ''}{name} {bound}" for name, bound in given)


def leaves(value: Any) -> list[Any]:
    """Returns the items of nested tuples as a flat list; a value that is no tuple is the only item."""
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, tuple) else [value]


def first_difference(ones: Sequence[Any], others: Sequence[Any]) -> tuple[int, Any, Any] | None:
    """Returns the first index at which two sequences differ, and the item of each there; None if they are equal.

    The item of a sequence that is too short is None.
    """
    pairs = enumerate(itertools.zip_longest(ones, others))
    return next(((place, one, other) for place, (one, other) in pairs if one != other), None)


def pair(size: Any) -> tuple[int, int]:
    """Returns (height, width) from one number, which is both, or from a pair."""
    height, width_px = (size, size) if isinstance(size, int) else size
    return height, width_px


def either(values: tuple[str, ...]) -> str:
    """Returns the values in words: `a, b or c`."""
    return values[0] if len(values) == 1 else ", ".join(values[:-1]) + " or " + values[-1]


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Returns the types that a type hint accepts: the members of a union, or the hint alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def as_type(kind: Any, value: Any) -> Any:
    """Returns `value` as an instance of the type `kind`. Only an int becomes a float, and a list a tuple.

    Raises:
        TypeError: `value` is of another type. A bool is not accepted as a number.
    """
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (tuple, list)):
            raise TypeError
        kinds = typing.get_args(kind)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        if len(kinds) != len(value):
            raise TypeError
        return tuple(as_type(k, v) for k, v in zip(kinds, value, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023:
        return float(value)  # larger integers can't be converted to a float
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def as_hint(hint: Any, value: Any) -> Any:
    """Returns `value` as the first type of a type hint that it fits. Raises TypeError if it fits none."""
    for kind in alternatives(hint):
        try:
            return as_type(kind, value)
        except TypeError:
            pass
    raise TypeError


def wording(hint: Any) -> str:
    """Returns the types of a type hint in words, without None, such as `int or a tuple`."""
    kinds = [kind for kind in alternatives(hint) if kind is not type(None)]
    return " or ".join("a tuple" if typing.get_origin(kind) else kind.__name__ for kind in kinds)
