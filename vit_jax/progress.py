"""Shows how far long work has come: by a bar on a terminal or in a notebook, and elsewhere by lines in the log."""

import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

_LOG = logging.getLogger(__name__)
_QUIET_SECONDS = 20.0


@contextlib.contextmanager
def shown(what: str, total: int | None = None, unit: str = "images") -> Iterator[Callable[[int], object]]:
    """Yields a function that takes how many units were done since its last call, and shows the sum.

    Args:
        what: the work, such as `computing`.
        total: the number of units of the whole work; None if it is not known.
        unit: what is counted, in the plural.
    """
    if shows_bars():
        with bar(total=total, desc=what, unit=f" {unit}", leave=False) as shown_bar:
            yield shown_bar.update
        return
    yield lines(what, total, unit)


def shows_bars() -> bool:
    """Returns whether standard error is a terminal or a notebook, where a bar can be redrawn."""
    return in_notebook() or sys.stderr.isatty()


def bar(**options: Any) -> Any:
    """Returns a bar of tqdm: a widget in a notebook that has ipywidgets, else text. `options` are those of tqdm."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # it asks for ipywidgets, which a bar of text does not need
        from tqdm.auto import tqdm
    return tqdm(dynamic_ncols=True, **options)


def lines(what: str, total: int | None = None, unit: str = "images") -> Callable[[int], None]:
    """Returns a function as `shown` yields it, which logs a line at most every 20 seconds."""
    done, said = 0, time.monotonic()

    def count(more: int) -> None:
        nonlocal done, said
        done += more
        if time.monotonic() - said > _QUIET_SECONDS:
            said = time.monotonic()
            _LOG.info("%s: %s%s %s", what, f"{done:,}", f" of {total:,}" if total else "", unit)

    return count


def tell(text: str) -> None:
    """Prints a line to standard error, above the bars that are shown."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)
    else:
        print(text, file=sys.stderr, flush=True)


def in_notebook() -> bool:
    """Returns whether this process is the kernel of a Jupyter or Colab notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
