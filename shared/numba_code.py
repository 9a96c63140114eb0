"""How numba compiles kernels: to machine code that is kept on disk for the next process."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any], returns: Any, *arguments: Any) -> Callable[..., Any]:
    """Machine code of a kernel for these numba types, from disk or made now (seconds). It lets other threads run.

    numba takes code from disk as long as the kernel's own file is unchanged; the name makes that all files of kernels beside it.
    Where nothing can be written, the code lasts as long as the process.
    """
    function.__qualname__ = f"{function.__name__}_{_digest_of_kernels(Path(function.__code__.co_filename).parent)}"
    signature = returns(*arguments)
    try:
        return njit([signature], nogil=True, cache=True)(function)
    except (RuntimeError, OSError):
        return njit([signature], nogil=True)(function)


@cache
def _digest_of_kernels(folder: Path) -> str:
    sources = sorted(folder.glob("kernels_numba_*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
