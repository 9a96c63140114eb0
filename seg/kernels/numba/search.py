"""The nearest classes, compiled: of a block of pixels, one pixel per lane, and of a tile of pixels, block after block.

Shapes and layout as in `seg.kernels.numba.block`; n pixels of a tile.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit, types

from seg.kernels.numba.block import CLASSES_AT_ONCE, Block, ClassTable, Kinds, block_size, fill, squared_distance
from seg.kernels.numba.lanes import any_lane, larger, load, lowest_bit, select, smaller, spread, square_root, store
from shared.kernels import compiled

MOST_DIRECT = 96
"""With no more classes, scores from differences cost less than the distances of the neighbours once more."""


@njit
def shortlist(block: Block, table: ClassTable, num_slots: int, direct: bool) -> None:
    """Fill the block's slots with the classes of highest score, the lower id first among equals.

    The score is x·μ − |μ|²/2, or −|x − μ|² where `direct` is wanted: slower, without the rounding error of the first form.
    """
    size = block_size(block)
    half = size // 2
    _reset(block, table, num_slots)
    for first in range(0, table.num_classes, CLASSES_AT_ONCE):
        last_slot = (num_slots - 1) * size
        hits = _score_by_differences(block, table, first, last_slot) if direct else _score_by_products(block, table, first, last_slot)
        while hits:
            i = lowest_bit(hits)
            hits &= hits - 1
            number = first + i // 2
            _insert(block, load(block.scratch, i * half), number, min(num_slots, number + 1), (i & 1) * half)


@njit(forceinline=True)
def set_doubtful_aside(block: Block, num_slots: int, places: np.ndarray, count: int) -> int:
    """Take the pixels out of the block whose last neighbour may be the wrong one; append them to `places` and count them."""
    size = block_size(block)
    for lane in range(size):
        gap = block.scores[(num_slots - 1) * size + lane] - block.runner_up[lane]
        # not `gap <= margin`: nan counts as doubt
        if block.place[lane] >= 0 and not gap > block.margin[lane]:
            places[count] = block.place[lane]
            block.place[lane] = -1
            count += 1
    return count


@njit(forceinline=True)
def _reset(block: Block, table: ClassTable, num_slots: int) -> None:
    size = block_size(block)
    block.scores[: num_slots * size] = -np.inf
    # some class that exists, for pixels that no class enters: those that are not finite
    block.ids[: num_slots * size] = 0
    block.runner_up[:] = -np.inf
    for lane in range(0, size, size // 2):
        squares = spread(table.rows, 0)
        for d in range(table.dim):
            x = load(block.columns, d * size + lane)
            squares = squares + x * x
        reach = square_root(squares) + spread(table.rows, table.reach)
        store(block.margin, lane, spread(table.rows, table.rounding) * reach * reach)


@njit(forceinline=True)
def _score_by_products(block: Block, table: ClassTable, first: int, last_slot: int) -> int:
    """Scores x·μ − |μ|²/2 of a few classes, see `_keep_best`."""
    columns, rows = block.columns, table.rows
    size, step = block_size(block), table.padded_dim
    half, at = size // 2, first * step
    a0, a1 = spread(rows, table.bias[first]), spread(rows, table.bias[first + 1])
    a2, a3 = spread(rows, table.bias[first + 2]), spread(rows, table.bias[first + 3])
    b0, b1, b2, b3 = a0, a1, a2, a3
    for d in range(table.dim):
        a, b = load(columns, d * size), load(columns, d * size + half)
        m0, m1 = spread(rows, rows[at + d]), spread(rows, rows[at + step + d])
        m2, m3 = spread(rows, rows[at + 2 * step + d]), spread(rows, rows[at + 3 * step + d])
        a0, a1, a2, a3 = a * m0 + a0, a * m1 + a1, a * m2 + a2, a * m3 + a3
        b0, b1, b2, b3 = b * m0 + b0, b * m1 + b1, b * m2 + b2, b * m3 + b3
    # lower by the margin: a class that only rounding may have put below the worst has to be seen as runner-up
    a = load(block.scores, last_slot) - load(block.margin, 0)
    b = load(block.scores, last_slot + half) - load(block.margin, half)
    return _keep_best(block, a, b, a0, a1, a2, a3, b0, b1, b2, b3)


@njit(forceinline=True)
def _score_by_differences(block: Block, table: ClassTable, first: int, last_slot: int) -> int:
    """Scores −|x − μ|² of a few classes, see `_keep_best`."""
    columns, rows = block.columns, table.rows
    size, step = block_size(block), table.padded_dim
    half, at = size // 2, first * step
    a0, a1 = spread(rows, 0), spread(rows, 0 if first + 1 < table.num_classes else -np.inf)
    a2 = spread(rows, 0 if first + 2 < table.num_classes else -np.inf)
    a3 = spread(rows, 0 if first + 3 < table.num_classes else -np.inf)
    b0, b1, b2, b3 = a0, a1, a2, a3
    for d in range(table.dim):
        a, b = load(columns, d * size), load(columns, d * size + half)
        m0, m1 = spread(rows, rows[at + d]), spread(rows, rows[at + step + d])
        m2, m3 = spread(rows, rows[at + 2 * step + d]), spread(rows, rows[at + 3 * step + d])
        a0, a1, a2, a3 = a0 - (a - m0) * (a - m0), a1 - (a - m1) * (a - m1), a2 - (a - m2) * (a - m2), a3 - (a - m3) * (a - m3)
        b0, b1, b2, b3 = b0 - (b - m0) * (b - m0), b1 - (b - m1) * (b - m1), b2 - (b - m2) * (b - m2), b3 - (b - m3) * (b - m3)
    # without a margin, as these scores are the distances that decide
    a, b = load(block.scores, last_slot), load(block.scores, last_slot + half)
    return _keep_best(block, a, b, a0, a1, a2, a3, b0, b1, b2, b3)


@njit(forceinline=True)
def _keep_best(block: Block, a: Any, b: Any, a0: Any, a1: Any, a2: Any, a3: Any, b0: Any, b1: Any, b2: Any, b3: Any) -> int:
    """Put scores of CLASSES_AT_ONCE classes and both vectors of pixels into the scratch, unless none is above a and b.

    Bit 2i: class i may enter the shortlist of a pixel of the first vector; bit 2i + 1: of the second.
    """
    scratch, size = block.scratch, block_size(block)
    half = size // 2
    if not (any_lane(larger(larger(a0, a1), larger(a2, a3)) > a) or any_lane(larger(larger(b0, b1), larger(b2, b3)) > b)):
        return 0
    store(scratch, 0, a0)
    store(scratch, half, b0)
    store(scratch, size, a1)
    store(scratch, size + half, b1)
    store(scratch, 2 * size, a2)
    store(scratch, 2 * size + half, b2)
    store(scratch, 3 * size, a3)
    store(scratch, 3 * size + half, b3)
    return (
        any_lane(a0 > a)
        | any_lane(b0 > b) << 1
        | any_lane(a1 > a) << 2
        | any_lane(b1 > b) << 3
        | any_lane(a2 > a) << 4
        | any_lane(b2 > b) << 5
        | any_lane(a3 > a) << 6
        | any_lane(b3 > b) << 7
    )


@njit(forceinline=True)
def _insert(block: Block, score: Any, number: int, num_slots: int, lane: int) -> None:
    """Put a class into the sorted slots of the pixels of a vector where it belongs: after the equal ones.

    Slots behind the first `num_slots` stay as they are: so many classes have not been seen yet.
    """
    scores, ids = block.scores, block.ids
    size = block_size(block)
    last = (num_slots - 1) * size + lane
    current = load(scores, last)
    # strictly: an equal class that is there already has the lower id
    enters = score > current
    # of the new class and the last slot's the worse one stays outside
    store(block.runner_up, lane, larger(load(block.runner_up, lane), smaller(score, current)))
    if not any_lane(enters):
        return
    current_id, new_id = load(ids, last), spread(ids, number)
    for slot in range(last, lane, -size):
        above, above_id = load(scores, slot - size), load(ids, slot - size)
        passes = score > above  # then this slot gets what was above it
        store(scores, slot, select(passes, above, select(enters, score, current)))
        store(ids, slot, select(passes, above_id, select(enters, new_id, current_id)))
        current, current_id, enters = above, above_id, passes
    store(scores, lane, select(enters, score, current))
    store(ids, lane, select(enters, new_id, current_id))


@cache
def nearest_kernel(dtype: np.dtype[Any]) -> Callable[..., None]:
    """`_nearest` for float32 or float64."""
    kinds = Kinds(dtype)
    return compiled(_nearest, types.void, kinds.matrix, kinds.table, kinds.block, kinds.indices, kinds.index_rows, kinds.rows)


@cache
def best_kernel(dtype: np.dtype[Any]) -> Callable[..., None]:
    """`_best` for float32 or float64."""
    kinds = Kinds(dtype)
    return compiled(_best, types.void, kinds.matrix, kinds.table, kinds.block, kinds.indices, kinds.indices)


def _nearest(pixels: np.ndarray, table: ClassTable, block: Block, places: np.ndarray, ids: np.ndarray, distances: np.ndarray) -> None:
    """The nearest classes by distances from differences, the lower id first among equals.

    Args:
        pixels: (D, n).
        block: with K slots.
        places: at least (n,) scratch.
        ids: (n, K), written.
        distances: (n, K) squared, written.
    """
    num_slots, size, num_pixels = ids.shape[1], block_size(block), len(ids)
    for pixel in range(num_pixels):
        places[pixel] = pixel
    for direct in (False, True):  # first all pixels the fast way, then those it left in doubt
        if not direct and table.num_classes <= MOST_DIRECT:
            continue
        num_doubtful = 0
        for first in range(0, num_pixels, size):
            fill(block, table, pixels, places[first : min(first + size, num_pixels)], not direct)
            shortlist(block, table, num_slots, direct)
            if direct:
                _write(block, table, num_slots, ids, distances)
            else:
                num_doubtful = set_doubtful_aside(block, num_slots, places, num_doubtful)
                _sort(block, table, num_slots, ids, distances)
        # doubtful places were written over the front of the list, which had been read by then
        num_pixels = num_doubtful


def _best(pixels: np.ndarray, table: ClassTable, block: Block, places: np.ndarray, ids: np.ndarray) -> None:
    """Class of the highest score, the lowest id among equals. `pixels` (D, n), a block with one slot, `places` (n,) scratch, `ids` (n,)."""
    size = block_size(block)
    for pixel in range(len(ids)):
        places[pixel] = pixel
    for first in range(0, len(ids), size):
        last = min(first + size, len(ids))
        fill(block, table, pixels, places[first:last], False)
        shortlist(block, table, 1, False)
        for lane in range(last - first):
            ids[first + lane] = block.ids[lane]


@njit
def _write(block: Block, table: ClassTable, num_slots: int, ids: np.ndarray, distances: np.ndarray) -> None:
    """Write the neighbours that were found by differences: they are in order, and their scores are the distances.

    A slot that no class has entered belongs to a pixel that is not a number, or infinitely far from all.
    """
    size = block_size(block)
    for lane in range(size):
        pixel = block.place[lane]
        if pixel < 0:
            continue
        for slot in range(num_slots):
            number, score = block.ids[slot * size + lane], block.scores[slot * size + lane]
            ids[pixel, slot] = number
            distances[pixel, slot] = -score if score > -np.inf else _distance(block, table, lane, number)


@njit
def _distance(block: Block, table: ClassTable, lane: int, number: int) -> float:
    """|x − μ|² of a pixel and a class, without the block's rows."""
    squares = 0.0
    for d in range(table.dim):
        offset = block.columns[d * block_size(block) + lane] - table.rows[number * table.padded_dim + d]
        squares += offset * offset
    return squares


@njit
def _sort(block: Block, table: ClassTable, num_slots: int, ids: np.ndarray, distances: np.ndarray) -> None:
    """Write the neighbours of a block's pixels in their order. The slots are nearly in order: what is moved moves a step or two."""
    size = block_size(block)
    for lane in range(size):
        pixel = block.place[lane]
        if pixel < 0:
            continue
        for slot in range(num_slots):
            number = block.ids[slot * size + lane]
            distance = squared_distance(block, table, lane, number)
            place = slot
            while place > 0 and (
                distances[pixel, place - 1] > distance or (distances[pixel, place - 1] == distance and ids[pixel, place - 1] > number)
            ):
                ids[pixel, place], distances[pixel, place] = ids[pixel, place - 1], distances[pixel, place - 1]
                place -= 1
            ids[pixel, place], distances[pixel, place] = number, distance
