"""The error for mistakes that the user can correct."""


class UserError(Exception):
    """An error that the user can correct.

    Its message is one sentence that says what is wrong, where, and how to correct it. A command prints the message and
    exits with code 1.
    """
