"""Errors a user can act on. Each takes one message, so that it survives pickling between processes."""


class HeadlightError(Exception):
    """Base of all errors that are shown as one line instead of a traceback."""


class InputError(HeadlightError):
    """Bad configuration or input. Names the key, the value and the choices; the command exits with 4."""


class UnruledOperation(HeadlightError):
    """An operation reached by a relevance pass has no rule in the table used."""
