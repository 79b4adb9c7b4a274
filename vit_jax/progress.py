"""Shows how far long work has come: by a bar on a terminal or in a notebook, and elsewhere by lines in the log."""

import builtins
import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator

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
    if in_notebook() or sys.stderr.isatty():
        from tqdm.auto import tqdm  # a widget in a notebook

        with tqdm(total=total, desc=what, unit=f" {unit}", dynamic_ncols=True, leave=False) as bar:
            yield bar.update
        return
    yield lines(what, total, unit)


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
    shell = getattr(builtins, "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")
