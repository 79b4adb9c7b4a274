"""Opens each data set once in a run."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_opened: contextvars.ContextVar[dict[Any, Any] | None] = contextvars.ContextVar("opened", default=None)


@contextlib.contextmanager
def opened_once() -> Iterator[None]:
    """Makes `once` remember what it has opened, until the context ends.

    A run therefore lists each folder once, and uses the same files from its start to its end.
    """
    token = _opened.set({})
    try:
        yield
    finally:
        _opened.reset(token)


def once(key: Any, make: Callable[[], T]) -> T:
    """Returns `make()`. Inside `opened_once`, `make` is called once for each key, and its result is returned again."""
    opened = _opened.get()
    if opened is None:
        return make()
    if key not in opened:
        opened[key] = make()
    return opened[key]
