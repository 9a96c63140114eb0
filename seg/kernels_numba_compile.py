"""How numba compiles the kernels: for any layout of the pixels at once, and kept on disk for the next process."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import from_dtype, njit, typeof, types

from seg.kernels_numba_block import class_table, new_block


def compiled(function: Callable[..., Any], returns: Any, *arguments: Any) -> Callable[..., Any]:
    """Machine code of a kernel for these numba types, from disk or made now (seconds). It lets other threads run.

    numba takes code from disk as long as the kernel's own file is unchanged; the name makes that all files of kernels.
    Where nothing can be written, the code lasts as long as the process.
    """
    function.__qualname__ = f"{function.__name__}_{_digest_of_kernels()}"
    signature = returns(*arguments)
    try:
        return njit([signature], nogil=True, cache=True)(function)
    except (RuntimeError, OSError):
        return njit([signature], nogil=True)(function)


class Kinds:
    """The numba types of what kernels for float32 or float64 take.

    Attributes:
        matrix: 2-D of any strides; `vector`, `rows`: contiguous 1-D and 2-D.
        indices: contiguous 1-D int64; `labels`: the same with any strides; `index_rows`: contiguous 2-D.
        table: a `ClassTable`; `block`: a `Block`.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        number = from_dtype(dtype)
        self.matrix, self.vector, self.rows = number[:, :], number[::1], number[:, ::1]
        self.indices, self.labels, self.index_rows = types.int64[::1], types.int64[:], types.int64[:, ::1]
        table = class_table(np.zeros((1, 1), dtype))
        self.table, self.block = typeof(table), typeof(new_block(table, 1))


@cache
def _digest_of_kernels() -> str:
    sources = sorted(Path(__file__).parent.glob("kernels_numba_*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
