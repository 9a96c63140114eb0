"""The one exception that a user is meant to see, the one check of a name among known ones, and which errors mean that memory has ended."""

import difflib
import re
from collections.abc import Iterable

LISTED = 20
"""Known names that an error lists at most."""

_OUT_OF_MEMORY = re.compile(r"out of memory|not enough memory|allocate memory", re.IGNORECASE)


class InputError(ValueError):
    """A mistake in what the user gave: a file, an option, a checkpoint.

    The message is one line that says what came, what was expected, which file and what to do.
    Programs print it without a traceback and exit with status 1.
    """


def choose(what: str, given: str, known: Iterable[str], *, other: str = "", where: str = "") -> str:
    """`given`, where it is one of the known names.

    Args:
        what: is named, such as "norm".
        other: what else may be given, in words.
        where: it was given, such as a file.

    Raises:
        InputError: it is none of them; suggests the nearest.
    """
    names = list(known)
    if given in names:
        return given
    near = nearest(given, names)
    hint = f" (did you mean {near}?)" if near else ""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    choices = ", ".join(names[:LISTED]) + more + (f", or {other}" if other else "")
    raise InputError(f"{where}{': ' if where else ''}unknown {what} {given!r}{hint}; choose one of {choices}")


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `given`; None where none is like it."""
    return next(iter(difflib.get_close_matches(given, known, n=1)), None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the machine or of a GPU, was asked for and refused: by the words, as torch's CPU allocator has no type for it."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None
