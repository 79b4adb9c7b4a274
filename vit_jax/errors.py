"""The error for mistakes that the user can correct."""


def one_line(error: BaseException) -> list[str]:
    """Returns what IPython prints in place of a traceback, for errors that have it as `_render_traceback_`."""
    return [": ".join(filter(None, (type(error).__name__, str(error))))]


class UserError(Exception):
    """An error that the user can correct.

    Its message is one sentence that says what is wrong, where, and how to correct it. A command prints the message and
    exits with code 1. A notebook shows it without a traceback.
    """

    _render_traceback_ = one_line
