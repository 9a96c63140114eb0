"""The numba types of what the kernels take: any layout of the pixels at once."""

from typing import Any

import numpy as np
from numba import from_dtype, typeof, types

from seg.kernels_numba_block import class_table, new_block


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
