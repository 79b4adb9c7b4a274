"""Where messages go: one handler on stderr and one format, for this package's messages and for Python's warnings."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

PACKAGE = "vit_jax"
_LOGGERS = (PACKAGE, "py.warnings")


def show() -> None:
    """Shows this package's messages, and of other libraries what is wrong only. Commands call it at their start."""
    from absl import logging as absl_logging

    _add(_handler())
    logging.getLogger(PACKAGE).propagate = False
    absl_logging.set_verbosity(absl_logging.WARNING)
    # Where a disk fails, Orbax's tasks fail by the dozen, each with its traceback. What it raises becomes one sentence.
    absl_logging.get_absl_handler().addFilter(lambda record: "/orbax/" not in record.pathname)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda ignored: logging.getLogger(PACKAGE).debug("ignored: %r", ignored.exc_value)
    warnings.formatwarning = lambda message, *_: " ".join(str(message).split())
    logging.captureWarnings(True)


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """Shows this package's messages inside, in a program of a user's that has not set up where messages go."""
    logger = logging.getLogger(PACKAGE)
    if logger.handlers or logging.getLogger().handlers:
        yield
        return
    handler, level, propagate = _handler(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # a library may set up the root logger meanwhile, and lines would be shown twice
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    return handler


def _add(handler: logging.Handler) -> None:
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)
    logging.getLogger(PACKAGE).setLevel(logging.INFO)
