"""Nearest classes of a tile of pixels, compiled: sorted with their distances, or the single best one.

Shapes: n pixels of a tile, D embedding size, K neighbours.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit, types

from seg.kernels_numba_block import Block, ClassTable, block_size, fill, squared_distance
from seg.kernels_numba_search import MOST_DIRECT, set_doubtful_aside, shortlist
from seg.kernels_numba_types import Kinds
from shared.kernels import compiled


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
