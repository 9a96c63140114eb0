"""The one exception that a user is meant to see, and which errors of others mean that memory has ended."""

import re


class InputError(ValueError):
    """A mistake in what the user gave: a file, an option, a checkpoint.

    The message is one line that says what came, what was expected, which file and what to do.
    Programs print it without a traceback and exit with status 1.
    """


_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|allocate memory", re.IGNORECASE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the machine or of a GPU, was asked for and refused: by the words, as torch's CPU allocator has no type for it."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None
