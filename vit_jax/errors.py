"""The error that a user can mend."""


class UserError(Exception):
    """Says in one sentence what is wrong, where, and the mend; a verb prints it and exits with code 1."""
