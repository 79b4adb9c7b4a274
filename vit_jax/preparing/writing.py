"""What a user is told if a preparation can't write."""

import contextlib
from collections.abc import Iterator

from etils import epath

from vit_jax.checkpoints import files
from vit_jax.errors import UserError


@contextlib.contextmanager
def writing(path: epath.Path, *kinds: type[Exception]) -> Iterator[None]:
    """Returns a context in which an OSError, or an error of other `kinds`, from writing becomes a UserError."""
    caught: tuple[type[Exception], ...] = (OSError, *kinds)
    try:
        yield
    except caught as error:
        reason = getattr(error, "strerror", None) or files.line(error)
        raise UserError(
            f"{path} can't be written ({reason}); make room there, and start the same command again to go on"
        ) from error
