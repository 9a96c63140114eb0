"""What the compiled kernels work on: the class embeddings in vectors, and a block of pixels, one per lane.

Shapes: B pixels of a block (two vectors), n of a tile, C classes, D embedding size, E = D padded to whole vectors, K neighbours.
All arrays of a block are flat: element (row, column) of a (·, B) array is at row·B + column.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, njit, typeof, types

from seg.kernels.numba.lanes import lane_count, lanes_in, load, spread, total

# with the two vectors of a block eight running sums, which stay in registers
CLASSES_AT_ONCE = 4


class ClassTable(NamedTuple):
    """The class embeddings, as the kernels read them."""

    rows: np.ndarray  # (C, E) flat, then zeros up to a multiple of CLASSES_AT_ONCE
    bias: np.ndarray  # −|μ|²/2; −∞ for the added classes, so that they win nowhere
    num_classes: int
    dim: int
    padded_dim: int
    reach: float  # the largest |μ|
    rounding: float  # times (|x| + reach)²: how far the difference of two scores may be wrong


class Block(NamedTuple):
    """B pixels on their way through the search."""

    columns: np.ndarray  # (D, B): a vector holds one coordinate of several pixels
    rows: np.ndarray  # (B, E): a vector holds coordinates of one pixel
    place: np.ndarray  # (B,) index of the pixel; −1 where the lane holds none
    scores: np.ndarray  # (K, B) the best so far, falling
    ids: np.ndarray  # (K, B)
    runner_up: np.ndarray  # (B,) the best score that was near enough to be seen, and has no slot
    margin: np.ndarray  # (B,) a score this much below another is surely the worse one
    scratch: np.ndarray  # (CLASSES_AT_ONCE, B) scores just computed; or (E,)


def class_table(classes: np.ndarray, spare_places: int = 0) -> ClassTable:
    """Of (C, D) embeddings in float32 or float64. Rows have at least D + spare_places places."""
    count, dim = classes.shape
    width = lane_count(classes.dtype)
    padded_dim = -(-(dim + spare_places) // width) * width
    padded_count = -(-count // CLASSES_AT_ONCE) * CLASSES_AT_ONCE
    rows = np.zeros((padded_count, padded_dim), classes.dtype)
    rows[:count, :dim] = classes
    # in float64, so that a bias is rounded once; a float32 sum of squares would be off by D roundings
    squared_norms = np.einsum("cd,cd->c", classes, classes, dtype=np.float64)
    bias = np.full(padded_count, -np.inf, classes.dtype)
    bias[:count] = squared_norms / -2
    # With unit roundoff u = ε/2, a score of D-vectors is off by less than (D + 2)·u·(|x||μ| + |μ|²/2), and a squared distance from
    # differences by (D + 2)·u·(|x|+|μ|)². Two scores, and half of two distances, stay below (D + 2)·ε·(|x|+|μ|)².
    rounding = (dim + 2) * float(np.finfo(classes.dtype).eps)
    return ClassTable(rows.ravel(), bias, count, dim, padded_dim, float(np.sqrt(squared_norms.max())), rounding)


def new_block(table: ClassTable, num_slots: int) -> Block:
    """An empty block."""
    dtype = table.rows.dtype
    # two vectors: a coordinate of a class that is spread over the lanes serves both
    size = 2 * lane_count(dtype)
    integer = np.int32 if dtype == np.float32 else np.int64  # as wide as the scores, so that one mask fits both
    return Block(
        columns=np.zeros(table.dim * size, dtype),
        rows=np.zeros(size * table.padded_dim, dtype),
        place=np.full(size, -1, np.int64),
        scores=np.empty(num_slots * size, dtype),
        ids=np.empty(num_slots * size, integer),
        runner_up=np.empty(size, dtype),
        margin=np.empty(size, dtype),
        scratch=np.empty(max(CLASSES_AT_ONCE * size, table.padded_dim), dtype),
    )


@njit(forceinline=True)
def block_size(block: Block) -> int:
    """B, as a constant of the machine code: loops in such steps need no division."""
    return 2 * lanes_in(block.scores)


@njit(forceinline=True)
def fill(block: Block, table: ClassTable, pixels: np.ndarray, places: np.ndarray, with_rows: bool) -> None:
    """Take up to B pixels, those of (D, n) at `places`; the block's rows are for `squared_distance`."""
    size = block_size(block)
    for lane in range(size):
        block.place[lane] = -1
    # the other lanes keep what the last block left there; −1 keeps them out of every result
    for lane in range(places.size):
        place = places[lane]
        block.place[lane] = place
        for d in range(table.dim):
            value = pixels[d, place]
            block.columns[d * size + lane] = value
            if with_rows:
                block.rows[lane * table.padded_dim + d] = value


@njit(forceinline=True)
def squared_distance(block: Block, table: ClassTable, lane: int, number: int) -> Any:
    """|x − μ|² of a pixel of the block and a class."""
    squares = spread(table.rows, 0)
    for d in range(0, table.padded_dim, block_size(block) // 2):
        offset = load(block.rows, lane * table.padded_dim + d) - load(table.rows, number * table.padded_dim + d)
        squares = squares + offset * offset
    return total(squares)


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
