"""Logging: this package's messages and Python's warnings go to stderr, in one format."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

PACKAGE = "vit_jax"
_FORMAT = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")


def show() -> None:
    """Sets up logging for a command: shows this package's messages, and only warnings and errors of other libraries."""
    from absl import logging as absl_logging

    handler, logger = logging.StreamHandler(), logging.getLogger(PACKAGE)
    handler.setFormatter(_FORMAT)
    for name in (PACKAGE, "py.warnings"):
        logging.getLogger(name).addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    absl_logging.set_verbosity(absl_logging.WARNING)
    # When a disk fails, dozens of Orbax's tasks fail, and each logs a traceback. Orbax also raises the error, and
    # `checkpoints.store` turns that into one sentence, so the tracebacks are hidden here.
    absl_logging.get_absl_handler().addFilter(lambda record: "/orbax/" not in record.pathname)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda ignored: logger.debug("ignored: %r", ignored.exc_value)
    warnings.formatwarning = lambda message, *_: " ".join(str(message).split())
    logging.captureWarnings(True)


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Shows this package's messages during the block, for programs that call the package as a library.

    Changes nothing if the program has set up logging for this package, or shows its messages already.
    """
    logger = logging.getLogger(PACKAGE)
    if logger.handlers or logger.level != logging.NOTSET or logger.isEnabledFor(logging.INFO):
        yield
        return
    handler = _Forwarding()
    handler.setFormatter(_FORMAT)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library may set up the root logger during the block, which would show lines twice
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True


class _Forwarding(logging.StreamHandler):
    """A handler that shows records, and passes them to the root logger's handlers as if it were not there."""

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        root = logging.getLogger()
        for handler in root.handlers:
            # A plain StreamHandler comes from `logging.basicConfig`, and would show the line a second time.
            if type(handler) is not logging.StreamHandler and record.levelno >= max(root.level, handler.level):
                handler.handle(record)
