"""The loss over all classes and its gradients, compiled: blocks of pixels meet every class in registers.

Shapes: n pixels of a tile, B pixels of a block (two vectors), C classes, D embedding size, E > D padded to whole vectors, t classes of a
strip.
Scores z, S and m as in `seg.losses.chunked`: scores are in base 2, and the target stays out of the sums.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit, typeof, types

from seg.kernels.numba.block import CLASSES_AT_ONCE, ClassTable, Kinds, class_table
from seg.kernels.numba.lanes import (
    any_lane,
    lane_count,
    lanes_in,
    larger,
    load,
    nearest_integer,
    power_of_two,
    select,
    smaller,
    spread,
    store,
)
from shared.kernels import compiled

LN2 = math.log(2)
# bits of S and of 2^z_target: float32 ends at 2^±126, and their quotient has to be inside too. For unit vectors and the temperature 0.05
# scores lie between −87 and 29, so that only many classes at a pixel's own place need the slower way
LEAST_BITS, MOST_BITS = -88, 32
FEW_CLASSES = 256  # that are summed in one go
STRIP_CLASSES = 2**14  # whose exponentials are kept for the class gradient: no more than a core's cache holds


class Pixels(NamedTuple):
    """B pixels on their way through the loss, one per lane. All arrays are flat: element (row, column) of (·, B) is at row·B + column."""

    columns: np.ndarray  # (D, B): a vector holds one coordinate of several pixels
    target_rows: np.ndarray  # (D, B) the table's row of the target
    rows: np.ndarray  # (B, E): a vector holds coordinates of one pixel, times its factor; in place D the factor itself
    target: np.ndarray  # (B,) number of the target; −1 where the lane holds no pixel
    own: np.ndarray  # (B,) z_target
    peak: np.ndarray  # (B,) m
    total: np.ndarray  # (B,) S = Σ 2^(z − m)
    pull: np.ndarray  # (D, B) Σ 2^(z − m)·row
    part: np.ndarray  # (D, B) the same of a few classes
    factor: np.ndarray  # (B,) ∂loss/∂2^(z − m)
    exponentials: np.ndarray  # (t, B) 2^(z − m)


def score_table(classes: np.ndarray, bias: np.ndarray) -> ClassTable:
    """Classes (C, D) and biases (C,) such that a score is x·class + bias, for the kernel."""
    table = class_table(classes, spare_places=1)
    table.bias[: len(classes)] = bias
    return table


def new_pixels(table: ClassTable) -> Pixels:
    """Memory for a block."""
    dtype, dim = table.rows.dtype, table.dim
    size = pixels_of_a_block(dtype)
    padded_classes = len(table.rows) // table.padded_dim
    kept = min(padded_classes, STRIP_CLASSES)
    sizes = (dim * size, dim * size, size * table.padded_dim, *[size] * 4, *[dim * size] * 2, size, kept * size)
    return Pixels(*(np.zeros(count, dtype) for count in sizes))


def pixels_of_a_block(dtype: np.dtype[Any]) -> int:
    """B."""
    return 2 * lane_count(dtype)


@cache
def exact_loss_kernel(dtype: np.dtype[Any]) -> Callable[..., float]:
    """`_exact_loss` for float32 or float64."""
    kinds = Kinds(dtype)
    block = typeof(new_pixels(class_table(np.zeros((1, 1), dtype), 1)))
    vector = kinds.vector
    return compiled(_exact_loss, types.float64, vector, kinds.indices, kinds.table, vector, types.float64, block, vector, vector)


def _exact_loss(
    pixels: np.ndarray,
    targets: np.ndarray,
    table: ClassTable,
    class_weights: np.ndarray,
    gradient_scale: float,
    block: Pixels,
    pixel_gradient: np.ndarray,
    class_sums: np.ndarray,
) -> float:
    """Weighted sum of the losses of a tile's pixels.

    Args:
        pixels: (D, n) flat, n a multiple of B.
        targets: (n,) int64 in [0, C), or −1 for pixels that fill up the last block.
        table: of `score_table`.
        class_weights: (C,), a pixel counts with the weight of its target; or (0,), all count as 1.
        gradient_scale: ∂loss/∂z is multiplied by it; with 0 no gradient is made.
        pixel_gradient: (D, n) flat, written.
        class_sums: (C, E) flat with the rows of the table, added to: the sums over pixels of ∂loss/∂z·x, and in place D of ∂loss/∂z.
    """
    loss = 0.0
    for first in range(0, targets.size, _block_size(block)):
        _fill(block, table, pixels, targets, first)
        _sum_over_classes(block, table)
        # a second sweep only where needed: for unit vectors and usual temperatures m = 0 serves
        shifted = not _in_range(block)
        if shifted:
            _find_peaks(block, table)
            _sum_over_classes(block, table)
        loss += _weigh_shifted(block, class_weights, gradient_scale) if shifted else _weigh(block, class_weights, gradient_scale)
        if gradient_scale != 0:
            _write_pixel_gradient(block, table, pixel_gradient, first)
            _add_class_sums(block, table, class_sums)
    return loss


@njit(forceinline=True)
def _block_size(block: Pixels) -> int:
    """B, as a constant of the machine code."""
    return 2 * lanes_in(block.columns)


@njit
def _fill(block: Pixels, table: ClassTable, pixels: np.ndarray, targets: np.ndarray, first: int) -> None:
    size = _block_size(block)
    for lane in range(size):
        # a lane without a pixel reads class 0, as any class will do
        number = max(targets[first + lane], 0)
        block.target[lane] = targets[first + lane]
        block.own[lane] = table.bias[number]
        for d in range(table.dim):
            block.target_rows[d * size + lane] = table.rows[number * table.padded_dim + d]
    block.peak[:] = 0
    for lane in range(0, size, size // 2):
        own = load(block.own, lane)
        for d in range(table.dim):
            x = load(pixels, d * targets.size + first + lane)
            store(block.columns, d * size + lane, x)
            own = own + x * load(block.target_rows, d * size + lane)
        store(block.own, lane, own)


@njit
def _sum_over_classes(block: Pixels, table: ClassTable) -> None:
    """S and pull, by sums over a few classes and sums of those: a single running sum over all would lose digits."""
    size, step = _block_size(block), table.padded_dim
    half = size // 2
    kept = block.exponentials.size // size
    part, rows = block.part, table.rows
    block.pull[:] = 0
    block.total[:] = 0
    for start in range(0, table.num_classes, FEW_CLASSES):
        part[:] = 0
        a, b = spread(part, 0), spread(part, 0)
        for first in range(start, min(start + FEW_CLASSES, table.num_classes), CLASSES_AT_ONCE):
            a0, a1, a2, a3, b0, b1, b2, b3 = _exponentials(block, table, first, first % kept)
            a, b = a + ((a0 + a1) + (a2 + a3)), b + ((b0 + b1) + (b2 + b3))
            for d in range(table.dim):
                at, place = first * step + d, d * size
                m0, m1 = spread(part, rows[at]), spread(part, rows[at + step])
                m2, m3 = spread(part, rows[at + 2 * step]), spread(part, rows[at + 3 * step])
                store(part, place, a3 * m3 + (a2 * m2 + (a1 * m1 + (a0 * m0 + load(part, place)))))
                store(part, place + half, b3 * m3 + (b2 * m2 + (b1 * m1 + (b0 * m0 + load(part, place + half)))))
        store(block.total, 0, load(block.total, 0) + a)
        store(block.total, half, load(block.total, half) + b)
        for place in range(0, part.size, half):
            store(block.pull, place, load(block.pull, place) + load(part, place))


@njit(forceinline=True)
def _exponentials(block: Pixels, table: ClassTable, first: int, kept: int) -> Any:
    """2^(z − m) of CLASSES_AT_ONCE classes for both vectors of pixels, 0 for the target; kept from row `kept` on."""
    columns, rows, size, step = block.columns, table.rows, _block_size(block), table.padded_dim
    half, at = size // 2, first * step
    a, b = load(block.peak, 0), load(block.peak, half)
    m0, m1 = spread(rows, table.bias[first]), spread(rows, table.bias[first + 1])
    m2, m3 = spread(rows, table.bias[first + 2]), spread(rows, table.bias[first + 3])
    a0, a1, a2, a3, b0, b1, b2, b3 = m0 - a, m1 - a, m2 - a, m3 - a, m0 - b, m1 - b, m2 - b, m3 - b
    for d in range(table.dim):
        a, b = load(columns, d * size), load(columns, d * size + half)
        m0, m1 = spread(rows, rows[at + d]), spread(rows, rows[at + step + d])
        m2, m3 = spread(rows, rows[at + 2 * step + d]), spread(rows, rows[at + 3 * step + d])
        a0, a1, a2, a3 = a * m0 + a0, a * m1 + a1, a * m2 + a2, a * m3 + a3
        b0, b1, b2, b3 = b * m0 + b0, b * m1 + b1, b * m2 + b2, b * m3 + b3
    a, b, at = load(block.target, 0), load(block.target, half), kept * size
    a0, b0 = _other_exp2(rows, a0, a, first), _other_exp2(rows, b0, b, first)
    a1, b1 = _other_exp2(rows, a1, a, first + 1), _other_exp2(rows, b1, b, first + 1)
    a2, b2 = _other_exp2(rows, a2, a, first + 2), _other_exp2(rows, b2, b, first + 2)
    a3, b3 = _other_exp2(rows, a3, a, first + 3), _other_exp2(rows, b3, b, first + 3)
    store(block.exponentials, at, a0)
    store(block.exponentials, at + half, b0)
    store(block.exponentials, at + 2 * half, a1)
    store(block.exponentials, at + 3 * half, b1)
    store(block.exponentials, at + 4 * half, a2)
    store(block.exponentials, at + 5 * half, b2)
    store(block.exponentials, at + 6 * half, a3)
    store(block.exponentials, at + 7 * half, b3)
    return a0, a1, a2, a3, b0, b1, b2, b3


@njit(forceinline=True)
def _other_exp2(like: np.ndarray, score: Any, target: Any, number: int) -> Any:
    return select(target == spread(like, number), spread(like, 0), _exp2(like, score))


def _series(degree: int) -> tuple[float, ...]:
    """Coefficients of 2^x, highest first."""
    return tuple(LN2**i / math.factorial(i) for i in range(degree, -1, -1))


_SHORT_SERIES, _LONG_SERIES = _series(7), _series(13)  # for |x| ≤ 1/2 to the last bits of float32 and of float64


@njit(forceinline=True)
def _exp2(like: np.ndarray, x: Any) -> Any:
    """2^x, to the last bits; 0 where it would not be a normal number. Above the number range it is far outside the safe range."""
    single = like.itemsize == 4
    whole = nearest_integer(x)
    rest = x - whole
    if single:
        series = spread(like, _SHORT_SERIES[0])
        for i in range(1, len(_SHORT_SERIES)):
            series = series * rest + spread(like, _SHORT_SERIES[i])
    else:
        series = spread(like, _LONG_SERIES[0])
        for i in range(1, len(_LONG_SERIES)):
            series = series * rest + spread(like, _LONG_SERIES[i])
    # a larger exponent would run into the sign bit
    power = power_of_two(smaller(whole, spread(like, 126 if single else 1022)))
    return select(x < spread(like, -126 if single else -1022), spread(like, 0), series * power)


@njit
def _in_range(block: Pixels) -> bool:
    """Whether S and 2^z_target of every pixel are well inside the number range; nan is not."""
    size = _block_size(block)
    low, high = spread(block.own, 2.0**LEAST_BITS), spread(block.own, 2.0**MOST_BITS)
    least, most = spread(block.own, LEAST_BITS), spread(block.own, MOST_BITS)
    zero, one = spread(block.own, 0), spread(block.own, 1)
    outside = zero
    for lane in range(0, size, size // 2):
        whole, own = load(block.total, lane), load(block.own, lane)
        outside = outside + select(whole > low, select(whole < high, zero, one), one)
        outside = outside + select(own > least, select(own < most, zero, one), one)
    return not any_lane(outside > zero)


@njit
def _find_peaks(block: Pixels, table: ClassTable) -> None:
    """m becomes the highest score, that of the target included."""
    size = _block_size(block)
    for lane in range(0, size, size // 2):
        highest = load(block.own, lane)
        for number in range(table.num_classes):
            score = spread(block.peak, table.bias[number])
            for d in range(table.dim):
                score = score + load(block.columns, d * size + lane) * spread(block.peak, table.rows[number * table.padded_dim + d])
            highest = larger(score, highest)
        store(block.peak, lane, highest)


@njit
def _weigh(block: Pixels, class_weights: np.ndarray, gradient_scale: float) -> float:
    """Factors and the weighted sum of the losses log(1 + S / 2^z_target), of which several become one logarithm."""
    size = _block_size(block)
    excess = block.own  # its memory: each is read before it is written over
    for lane in range(0, size, size // 2):
        itself, others = _exp2(excess, load(block.own, lane)), load(block.total, lane)
        store(block.factor, lane, spread(excess, gradient_scale) / (others + itself))
        store(excess, lane, others / itself)
    loss, product = 0.0, 0.0
    if class_weights.size > 0:
        for lane in range(size):
            if block.target[lane] < 0:
                block.factor[lane] = 0
            else:
                weight = class_weights[int(block.target[lane])]
                block.factor[lane] *= weight
                loss += weight * math.log1p(excess[lane])
        return loss
    # Σ log1p(a) = log1p(Π (1 + a) − 1), built without losing a small a beside the 1
    for lane in range(size):
        if block.target[lane] < 0:
            block.factor[lane] = 0
        else:
            product += excess[lane] + product * excess[lane]
        # well before float64 ends: the next factor may be as large as 2^120
        if product > 1e200 or lane == size - 1:
            loss += math.log1p(product)
            product = 0.0
    return loss


@njit
def _weigh_shifted(block: Pixels, class_weights: np.ndarray, gradient_scale: float) -> float:
    """The same where single numbers may leave the number range."""
    loss = 0.0
    for lane in range(_block_size(block)):
        block.factor[lane] = 0
        if block.target[lane] >= 0:
            others, gap = np.float64(block.total[lane]), np.float64(block.peak[lane]) - np.float64(block.own[lane])
            itself = math.exp(-gap * LN2)
            weight = np.float64(class_weights[int(block.target[lane])]) if class_weights.size > 0 else 1.0
            # from 2^500 on the 1 is far below the last digit, and further on 2^gap leaves float64
            loss += weight * (math.log1p(others / itself) if gap < 500 else math.log(others) + gap * LN2)
            block.factor[lane] = weight * gradient_scale / (others + itself)
    return loss


@njit
def _write_pixel_gradient(block: Pixels, table: ClassTable, pixel_gradient: np.ndarray, first: int) -> None:
    """∂loss/∂x = factor · Σ 2^(z − m)·(row − target's row)."""
    size, num_pixels = _block_size(block), pixel_gradient.size // table.dim
    for place in range(0, table.dim * size, size // 2):
        lane = place % size
        pull = load(block.pull, place) - load(block.total, lane) * load(block.target_rows, place)
        store(pixel_gradient, place // size * num_pixels + first + lane, pull * load(block.factor, lane))


@njit
def _add_class_sums(block: Pixels, table: ClassTable, class_sums: np.ndarray) -> None:
    """Sums over pixels of ∂loss/∂z·(x, 1). Of the exponentials of several strips only the last are still there."""
    size, width = _block_size(block), table.padded_dim
    kept = block.exponentials.size // size
    for lane in range(size):
        block.rows[lane * width + table.dim] = block.factor[lane]
        for d in range(table.dim):
            block.rows[lane * width + d] = block.columns[d * size + lane] * block.factor[lane]
    for start in range(0, table.num_classes, kept):
        stop = min(start + kept, table.num_classes)
        if kept < table.num_classes:
            for first in range(start, stop, CLASSES_AT_ONCE):
                _exponentials(block, table, first, first - start)
        for lane in range(size):
            # with −S in the target's place a pixel's weights sum to zero over the classes
            if start <= block.target[lane] < stop:
                block.exponentials[(int(block.target[lane]) - start) * size + lane] = -block.total[lane]
        for first in range(start, stop, CLASSES_AT_ONCE):
            for d in range(0, width, size // 2):
                _add_products(block, (first - start) * size, class_sums, first * width + d, width, d)


@njit(forceinline=True)
def _add_products(block: Pixels, weight: int, class_sums: np.ndarray, at: int, width: int, d: int) -> None:
    rows, weights, size = block.rows, block.exponentials, _block_size(block)
    c0, c1 = load(class_sums, at), load(class_sums, at + width)
    c2, c3 = load(class_sums, at + 2 * width), load(class_sums, at + 3 * width)
    for lane in range(size):
        x = load(rows, lane * width + d)
        c0 = x * spread(rows, weights[weight + lane]) + c0
        c1 = x * spread(rows, weights[weight + size + lane]) + c1
        c2 = x * spread(rows, weights[weight + 2 * size + lane]) + c2
        c3 = x * spread(rows, weights[weight + 3 * size + lane]) + c3
    store(class_sums, at, c0)
    store(class_sums, at + width, c1)
    store(class_sums, at + 2 * width, c2)
    store(class_sums, at + 3 * width, c3)
