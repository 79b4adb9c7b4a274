"""Error messages about images, and the format of log lines from worker processes."""

import logging
import warnings

from PIL import UnidentifiedImageError

_PACKAGE = "vit_jax"


def in_words(error: Exception) -> str:
    """Returns why an image can't be read, in words for users and, if possible, without names of Python classes."""
    if isinstance(error, UnidentifiedImageError):
        return "its content is that of no image format that Pillow reads"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def formatter() -> logging.Formatter | None:
    """Returns the format of the package's log lines in this process, for worker processes; None if it is not set."""
    found = [handler.formatter for handler in logging.getLogger(_PACKAGE).handlers if handler.formatter]
    return found[0] if found else None


def show_in_worker(chosen: logging.Formatter | None) -> None:
    """Makes this worker process show log lines and Python's warnings in the format of the main process.

    Args:
        chosen: what `formatter` returned in the main process; if it is None, nothing changes.
    """
    if chosen is None:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(chosen)
    warnings.formatwarning = lambda message, *_: str(message)
    logging.captureWarnings(True)
    for name in (_PACKAGE, "py.warnings"):
        logging.getLogger(name).addHandler(handler)
