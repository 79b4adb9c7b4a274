"""What a run opens, it opens once."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_opened: contextvars.ContextVar[dict[Any, Any] | None] = contextvars.ContextVar("opened", default=None)


@contextlib.contextmanager
def opened_once() -> Iterator[None]:
    """Within it, each data set is opened, listed and reported once, however often it is asked for.

    A run so reads the same files from its start to its end. Outside of it, every call looks anew.
    """
    token = _opened.set({})
    try:
        yield
    finally:
        _opened.reset(token)


def once(key: Any, make: Callable[[], T]) -> T:
    """Returns what `make` returns; within `opened_once`, what it returned for `key` the first time."""
    opened = _opened.get()
    if opened is None:
        return make()
    if key not in opened:
        opened[key] = make()
    return opened[key]
