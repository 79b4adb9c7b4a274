"""Values as the types that a field's annotation names: what a config and what a file says go through here."""

import types
import typing
from typing import Any


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
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**63 else value
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
