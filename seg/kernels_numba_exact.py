"""The loss over all classes and its gradients, compiled: a block of pixels meets every class in registers, and its exponentials stay in cache.

Shapes: n pixels of a tile, B pixels of a block (two vectors), C classes, D embedding size, E > D padded to whole vectors, t classes of a strip.
Scores, S, peaks and factors as in `seg.losses_streamed`: a score is in base 2, and the target stays out of the sum.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit, types

from seg.kernels_numba_block import CLASSES_AT_ONCE, Block, ClassTable, block_size, fill
from seg.kernels_numba_compile import Kinds, compiled
from seg.kernels_numba_lanes import larger, load, nearest_integer, power_of_two, select, smaller, spread, store

PULL, PART, TOTAL, PEAK, TARGET, OWN = range(6)
SAFE_RANGE = 2.0**-90, 2.0**90  # of S: float32 ends at 2^±126, and S is still multiplied
FEW_CLASSES = 256  # that are summed in one go
_STRIP = 2**14
"""Classes of a strip: its exponentials take B times as many numbers, and should not leave a core's cache."""


def _series(degree: int) -> tuple[float, ...]:
    """Coefficients, highest first, of the polynomial that meets 2^x at the Chebyshev points of |x| ≤ 1/2."""
    fit = np.polynomial.chebyshev.Chebyshev.interpolate(np.exp2, degree, domain=[-0.5, 0.5])
    return tuple(float(c) for c in fit.convert(kind=np.polynomial.Polynomial).coef[::-1])


_SHORT_SERIES, _LONG_SERIES = _series(6), _series(13)  # to the last bits of float32 and of float64


def strip_classes(num_classes: int) -> int:
    """t: all classes, unless they are very many."""
    return min(-(-num_classes // CLASSES_AT_ONCE) * CLASSES_AT_ONCE, _STRIP)


@cache
def exact_loss_kernel(dtype: np.dtype[Any]) -> Callable[..., float]:
    """`_exact_loss` for float32 or float64."""
    kinds, number = Kinds(dtype), types.float64
    scratch = (kinds.block, kinds.indices, kinds.vector, kinds.vector)
    return compiled(_exact_loss, number, kinds.matrix, kinds.labels, kinds.table, number, *scratch, kinds.matrix, kinds.vector)


def _exact_loss(
    pixels: np.ndarray,
    targets: np.ndarray,
    table: ClassTable,
    gradient_scale: float,
    block: Block,
    places: np.ndarray,
    sums: np.ndarray,
    exponentials: np.ndarray,
    pixel_gradient: np.ndarray,
    class_sums: np.ndarray,
) -> float:
    """Sum of the losses of a tile's pixels.

    Args:
        pixels: (D, n), relative to the origin of the scores.
        targets: (n,) int64 in [0, C).
        table: the classes as the scores need them: a score is x·row + bias. Rows have at least D + 1 places.
        gradient_scale: ∂loss/∂score is multiplied by it; with 0 no gradient is made.
        block: of any number of slots.
        places: at least (n,) scratch.
        sums: (2D + 4, B) flat, scratch: see `_row`.
        exponentials: (t, B) flat, scratch.
        pixel_gradient: (D, n), written.
        class_sums: (C, E) flat with the rows of the table, added to: the sums over pixels of ∂loss/∂score·x, and in place D of ∂loss/∂score.
    """
    size = block_size(block)
    for pixel in range(targets.size):
        places[pixel] = pixel
    loss = 0.0
    for first in range(0, targets.size, size):
        fill(block, table, pixels, places[first : min(first + size, targets.size)])
        _set_targets(block, table, targets, sums)
        _sum_over_classes(block, table, sums, exponentials)
        if not _in_range(block, table, sums):
            _find_peaks(block, table, sums)
            _sum_over_classes(block, table, sums, exponentials)
        loss += _weigh(block, table, targets, gradient_scale, sums)
        if gradient_scale != 0:
            _write_pixel_gradient(block, table, targets, sums, pixel_gradient)
            _add_class_sums(block, table, targets, sums, exponentials, class_sums)
    return loss


@njit(forceinline=True)
def _row(block: Block, table: ClassTable, name: int) -> int:
    """Where in `sums` the pixels' numbers of one kind begin.

    PULL: (D, B) Σ 2^(z − m)·row over the classes; PART: (D, B) its share of a few classes; TOTAL: S; PEAK: m; TARGET: the target's number;
    OWN: the target's score, then the factor that makes ∂loss/∂score of 2^(z − m).
    """
    return (name if name < 2 else 2 * table.dim + name - 2) * (table.dim if name < 2 else 1) * block_size(block)


@njit
def _set_targets(block: Block, table: ClassTable, targets: np.ndarray, sums: np.ndarray) -> None:
    size = block_size(block)
    peak, target, own = _row(block, table, PEAK), _row(block, table, TARGET), _row(block, table, OWN)
    for lane in range(size):
        sums[peak + lane] = 0
        sums[target + lane] = -1
        sums[own + lane] = 0
        if block.place[lane] >= 0:
            number = targets[block.place[lane]]
            score = table.bias[number]
            for d in range(table.dim):
                score += block.columns[d * size + lane] * table.rows[number * table.padded_dim + d]
            sums[target + lane] = number
            sums[own + lane] = score


@njit
def _sum_over_classes(block: Block, table: ClassTable, sums: np.ndarray, exponentials: np.ndarray) -> None:
    """TOTAL and PULL, by sums over a few classes and sums of those: a single running sum over all would lose digits."""
    size = block_size(block)
    half, strip = size // 2, exponentials.size // size
    part, total = _row(block, table, PART), _row(block, table, TOTAL)
    sums[: part] = 0
    sums[total : total + size] = 0
    for start in range(0, table.num_classes, FEW_CLASSES):
        stop = min(start + FEW_CLASSES, table.num_classes)
        sums[part : part + table.dim * size] = 0
        a, b = spread(sums, 0), spread(sums, 0)
        for first in range(start, stop, CLASSES_AT_ONCE):
            a0, a1, a2, a3, b0, b1, b2, b3 = _exponentials(block, table, first, sums)
            a, b = a + ((a0 + a1) + (a2 + a3)), b + ((b0 + b1) + (b2 + b3))
            at = first % strip * size
            _keep(exponentials, at, half, a0, a1, a2, a3, b0, b1, b2, b3)
            at = first * table.padded_dim
            for d in range(table.dim):
                place = part + d * size
                m0, m1 = spread(sums, table.rows[at + d]), spread(sums, table.rows[at + table.padded_dim + d])
                m2 = spread(sums, table.rows[at + 2 * table.padded_dim + d])
                m3 = spread(sums, table.rows[at + 3 * table.padded_dim + d])
                store(sums, place, a3 * m3 + (a2 * m2 + (a1 * m1 + (a0 * m0 + load(sums, place)))))
                store(sums, place + half, b3 * m3 + (b2 * m2 + (b1 * m1 + (b0 * m0 + load(sums, place + half)))))
        store(sums, total, load(sums, total) + a)
        store(sums, total + half, load(sums, total + half) + b)
        for place in range(0, table.dim * size, half):
            store(sums, place, load(sums, place) + load(sums, part + place))


@njit(forceinline=True)
def _exponentials(block: Block, table: ClassTable, first: int, sums: np.ndarray) -> Any:
    """2^(z − m) of CLASSES_AT_ONCE classes for both vectors of pixels; 0 for the target."""
    columns, rows, size, step = block.columns, table.rows, block_size(block), table.padded_dim
    half, at, peak, target = size // 2, first * step, _row(block, table, PEAK), _row(block, table, TARGET)
    a, b = load(sums, peak), load(sums, peak + half)
    m0, m1 = spread(rows, table.bias[first]), spread(rows, table.bias[first + 1])
    m2, m3 = spread(rows, table.bias[first + 2]), spread(rows, table.bias[first + 3])
    a0, a1, a2, a3, b0, b1, b2, b3 = m0 - a, m1 - a, m2 - a, m3 - a, m0 - b, m1 - b, m2 - b, m3 - b
    for d in range(table.dim):
        a, b = load(columns, d * size), load(columns, d * size + half)
        m0, m1 = spread(rows, rows[at + d]), spread(rows, rows[at + step + d])
        m2, m3 = spread(rows, rows[at + 2 * step + d]), spread(rows, rows[at + 3 * step + d])
        a0, a1, a2, a3 = a * m0 + a0, a * m1 + a1, a * m2 + a2, a * m3 + a3
        b0, b1, b2, b3 = b * m0 + b0, b * m1 + b1, b * m2 + b2, b * m3 + b3
    a, b = load(sums, target), load(sums, target + half)
    m0, m1, m2, m3 = spread(rows, first), spread(rows, first + 1), spread(rows, first + 2), spread(rows, first + 3)
    zero = spread(rows, 0)
    return (
        select(a == m0, zero, _exp2(rows, a0)),
        select(a == m1, zero, _exp2(rows, a1)),
        select(a == m2, zero, _exp2(rows, a2)),
        select(a == m3, zero, _exp2(rows, a3)),
        select(b == m0, zero, _exp2(rows, b0)),
        select(b == m1, zero, _exp2(rows, b1)),
        select(b == m2, zero, _exp2(rows, b2)),
        select(b == m3, zero, _exp2(rows, b3)),
    )


@njit(forceinline=True)
def _keep(exponentials: np.ndarray, at: int, half: int, a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, b2: Any, b3: Any) -> None:
    store(exponentials, at, a0)
    store(exponentials, at + half, b0)
    store(exponentials, at + 2 * half, a1)
    store(exponentials, at + 3 * half, b1)
    store(exponentials, at + 4 * half, a2)
    store(exponentials, at + 5 * half, b2)
    store(exponentials, at + 6 * half, a3)
    store(exponentials, at + 7 * half, b3)


@njit(forceinline=True)
def _exp2(like: np.ndarray, x: Any) -> Any:
    """2^x to the last bits; 0 where it would not be a normal number. Above the number range it is some number far outside `SAFE_RANGE`."""
    short = like.itemsize == 4
    whole = nearest_integer(x)
    rest = x - whole
    if short:
        series = spread(like, _SHORT_SERIES[0])
        for i in range(1, len(_SHORT_SERIES)):
            series = series * rest + spread(like, _SHORT_SERIES[i])
    else:
        series = spread(like, _LONG_SERIES[0])
        for i in range(1, len(_LONG_SERIES)):
            series = series * rest + spread(like, _LONG_SERIES[i])
    power = power_of_two(smaller(whole, spread(like, 126 if short else 1022)))
    return select(x < spread(like, -126 if short else -1022), spread(like, 0), series * power)


@njit
def _in_range(block: Block, table: ClassTable, sums: np.ndarray) -> bool:
    """Whether S of every pixel is well inside the number range; not-a-numbers are not."""
    total = _row(block, table, TOTAL)
    for lane in range(block_size(block)):
        if block.place[lane] >= 0 and not (SAFE_RANGE[0] < sums[total + lane] < SAFE_RANGE[1]):
            return False
    return True


@njit
def _find_peaks(block: Block, table: ClassTable, sums: np.ndarray) -> None:
    """PEAK: the highest score, that of the target included."""
    size, peak = block_size(block), _row(block, table, PEAK)
    for lane in range(0, size, size // 2):
        highest = spread(sums, -np.inf)
        for number in range(table.num_classes):
            score = spread(sums, table.bias[number])
            for d in range(table.dim):
                score = score + load(block.columns, d * size + lane) * spread(sums, table.rows[number * table.padded_dim + d])
            highest = larger(score, highest)
        store(sums, peak + lane, highest)


@njit
def _weigh(block: Block, table: ClassTable, targets: np.ndarray, gradient_scale: float, sums: np.ndarray) -> float:
    """The sum of the losses; OWN becomes the factor."""
    total, peak, own = _row(block, table, TOTAL), _row(block, table, PEAK), _row(block, table, OWN)
    loss = 0.0
    for lane in range(block_size(block)):
        if block.place[lane] < 0:
            sums[own + lane] = 0
            continue
        others = np.float64(sums[total + lane])
        score = np.float64(sums[own + lane]) - np.float64(sums[peak + lane])
        if score > -500:
            itself = 2.0**score
            loss += math.log1p(others / itself)
            sums[own + lane] = gradient_scale / (others + itself)
        else:
            loss += (math.log2(others) - score) * math.log(2)
            sums[own + lane] = gradient_scale / others
    return loss


@njit
def _write_pixel_gradient(block: Block, table: ClassTable, targets: np.ndarray, sums: np.ndarray, pixel_gradient: np.ndarray) -> None:
    """∂loss/∂x = factor · Σ 2^(z − m) (row − target's row)."""
    size, total, own = block_size(block), _row(block, table, TOTAL), _row(block, table, OWN)
    for lane in range(size):
        place = block.place[lane]
        if place >= 0:
            at = targets[place] * table.padded_dim
            for d in range(table.dim):
                pixel_gradient[d, place] = (sums[d * size + lane] - sums[total + lane] * table.rows[at + d]) * sums[own + lane]


@njit
def _add_class_sums(
    block: Block, table: ClassTable, targets: np.ndarray, sums: np.ndarray, exponentials: np.ndarray, class_sums: np.ndarray
) -> None:
    size, width, dim = block_size(block), table.padded_dim, table.dim
    total, own = _row(block, table, TOTAL), _row(block, table, OWN)
    strip = exponentials.size // size
    for lane in range(size):
        factor = sums[own + lane]
        for d in range(dim):
            block.rows[lane * width + d] *= factor
        block.rows[lane * width + dim] = factor
    for start in range(0, table.num_classes, strip):
        stop = min(start + strip, table.num_classes)
        if strip < table.num_classes:
            for first in range(start, stop, CLASSES_AT_ONCE):
                a0, a1, a2, a3, b0, b1, b2, b3 = _exponentials(block, table, first, sums)
                _keep(exponentials, (first - start) * size, size // 2, a0, a1, a2, a3, b0, b1, b2, b3)
        for lane in range(size):
            if block.place[lane] >= 0 and start <= targets[block.place[lane]] < stop:
                exponentials[(targets[block.place[lane]] - start) * size + lane] = -sums[total + lane]
        for first in range(start, stop, CLASSES_AT_ONCE):
            for d in range(0, width, size // 2):
                _add_group(block.rows, exponentials, (first - start) * size, class_sums, first * width + d, d, width, size)


@njit(forceinline=True)
def _add_group(rows: np.ndarray, weights: np.ndarray, weight: int, class_sums: np.ndarray, at: int, d: int, width: int, size: int) -> None:
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
