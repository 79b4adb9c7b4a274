"""What is said about images, in words that a user knows and in the package's one format."""

import logging
import warnings

from PIL import UnidentifiedImageError

_PACKAGE = "vit_jax"


def in_words(error: Exception) -> str:
    """Returns why an image can't be read, without the names of Python's classes and objects."""
    if isinstance(error, UnidentifiedImageError):
        return "its content is that of no image format that Pillow reads"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def formatter() -> logging.Formatter | None:
    """The format of the package's log lines in this process, to be sent to worker processes."""
    found = [handler.formatter for handler in logging.getLogger(_PACKAGE).handlers if handler.formatter]
    return found[0] if found else None


def show_in_worker(chosen: logging.Formatter | None) -> None:
    """In a worker process: shows log lines and Python's warnings as the main process shows its log lines."""
    if chosen is None:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(chosen)
    warnings.formatwarning = lambda message, *_: str(message)
    logging.captureWarnings(True)
    for name in (_PACKAGE, "py.warnings"):
        logging.getLogger(name).addHandler(handler)
