"""The one exception that a user is meant to see."""


class InputError(ValueError):
    """A mistake in what the user gave: a file, an option, a checkpoint.

    The message is one line that says what came, what was expected, which file and what to do.
    Programs print it without a traceback and exit with status 1.
    """
