"""Values as the types and within the limits that a field names: what a config and what a file says go through here."""

import dataclasses
import itertools
import math
import types
import typing
from collections.abc import Sequence
from typing import Any

MOST = 2**31 - 1  # devices count steps, rows and sizes in int32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a value may be beside its type: one of `choices`, or finite numbers within bounds, inside tuples too."""

    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None

    def wrong(self, value: Any) -> str:
        """Returns what `value` must be instead, such as `it must be at least 1`; nothing where it is within them."""
        if self.choices and value not in self.choices:
            return f"it can be {either(self.choices)}"
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
    """Returns what stands in nested tuples, or the value alone."""
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, tuple) else [value]


def first_difference(ones: Sequence[Any], others: Sequence[Any]) -> tuple[int, Any, Any] | None:
    """Returns where two sequences first differ, and what each has there, None where it has ended; None if nowhere."""
    pairs = enumerate(itertools.zip_longest(ones, others))
    return next(((place, one, other) for place, (one, other) in pairs if one != other), None)


def either(values: tuple[str, ...]) -> str:
    """Returns the values in words: `a, b or c`."""
    return values[0] if len(values) == 1 else ", ".join(values[:-1]) + " or " + values[-1]


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Returns the types that a hint accepts: those of a union, else the hint alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def as_type(kind: Any, value: Any) -> Any:
    """Returns `value` as `kind`: an int becomes a float and a list a tuple, and nothing else changes.

    Raises:
        TypeError: `value` is of another type. A bool is no number.
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
        return float(value)  # a larger one has no float
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def as_hint(hint: Any, value: Any) -> Any:
    """Returns `value` as the first type of the hint that it fits. Raises TypeError where it fits none."""
    for kind in alternatives(hint):
        try:
            return as_type(kind, value)
        except TypeError:
            pass
    raise TypeError


def wording(hint: Any) -> str:
    """Returns a hint's types in words, such as `int or a tuple`."""
    kinds = [kind for kind in alternatives(hint) if kind is not type(None)]
    return " or ".join("a tuple" if typing.get_origin(kind) else kind.__name__ for kind in kinds)
