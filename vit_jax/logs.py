"""Where messages go: one handler on stderr and one format, for this package's messages and for Python's warnings."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

PACKAGE = "vit_jax"
_FORMAT = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")


def show() -> None:
    """Shows this package's messages, and of other libraries what is wrong only. Commands call it at their start."""
    from absl import logging as absl_logging

    handler, logger = logging.StreamHandler(), logging.getLogger(PACKAGE)
    handler.setFormatter(_FORMAT)
    for name in (PACKAGE, "py.warnings"):
        logging.getLogger(name).addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    absl_logging.set_verbosity(absl_logging.WARNING)
    # Where a disk fails, Orbax's tasks fail by the dozen, each with its traceback. What it raises becomes one sentence.
    absl_logging.get_absl_handler().addFilter(lambda record: "/orbax/" not in record.pathname)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda ignored: logger.debug("ignored: %r", ignored.exc_value)
    warnings.formatwarning = lambda message, *_: " ".join(str(message).split())
    logging.captureWarnings(True)


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Shows this package's messages inside, in a program of a user's that has not asked to see or hide them."""
    logger = logging.getLogger(PACKAGE)
    if logger.handlers or logger.level != logging.NOTSET or logger.isEnabledFor(logging.INFO):
        yield
        return
    handler = _Forwarding()
    handler.setFormatter(_FORMAT)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library may set up the root logger meanwhile, and lines would be shown twice
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


class _Forwarding(logging.StreamHandler):
    """Shows records, and hands on to the root logger's handlers what they would have received without this one."""

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        root = logging.getLogger()
        for handler in root.handlers:
            # A plain StreamHandler is that of `logging.basicConfig`, which would show the line once more.
            if type(handler) is not logging.StreamHandler and record.levelno >= max(root.level, handler.level):
                handler.handle(record)
