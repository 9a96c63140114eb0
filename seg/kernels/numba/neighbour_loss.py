"""The loss over the nearest classes and its gradients, compiled: search, softmax and gradients of a block of pixels after each other.

Shapes: n pixels of a tile, B pixels of a block, C classes, D embedding size, E = D padded to whole vectors, K neighbours.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit, types

from seg.kernels.numba.block import Block, ClassTable, Kinds, block_size, fill, squared_distance
from seg.kernels.numba.lanes import larger, load, nearest_integer, power_of_two, select, spread, square_root, store
from seg.kernels.numba.search import MOST_DIRECT, set_doubtful_aside, shortlist
from shared.kernels import compiled

INVERSE_FACTORIALS = tuple(1 / math.factorial(i) for i in range(12, -1, -1))  # of eˣ for |x| ≤ ln 2 / 2, to float64's precision


@cache
def neighbour_loss_kernel(dtype: np.dtype[Any]) -> Callable[..., float]:
    """`_neighbour_loss` for float32 or float64."""
    kinds = Kinds(dtype)
    number, flag, integer = types.float64, types.boolean, types.int64
    search = (kinds.matrix, kinds.labels, integer, kinds.table)
    return compiled(
        _neighbour_loss,
        *(number, *search, kinds.vector, flag, number, number, kinds.block, kinds.indices, kinds.vector, kinds.matrix, kinds.vector),
    )


def _neighbour_loss(
    pixels: np.ndarray,
    labels: np.ndarray,
    ignore_index: int,
    table: ClassTable,
    class_weights: np.ndarray,
    plain: bool,
    sharpness: float,
    gradient_scale: float,
    block: Block,
    places: np.ndarray,
    weights: np.ndarray,
    pixel_gradient: np.ndarray,
    class_gradient: np.ndarray,
) -> float:
    """Weighted sum of the losses of a tile's valid pixels.

    Args:
        pixels: (D, n).
        labels: (n,) int64, in [0, C) or `ignore_index`.
        class_weights: (C,), a pixel counts with the weight of its target; or (0,), all count as 1.
        plain: the distance is Euclidean; else its square.
        gradient_scale: the gradients are multiplied by it; with 0 none is made.
        block: with K slots.
        places: at least (n,) scratch.
        weights: (K + 1, B) flat, scratch.
        pixel_gradient: (D, n), written at the valid pixels.
        class_gradient: (C, E) flat, added to.
    """
    size = block_size(block)
    num_neighbours = weights.size // size - 1
    num_pixels = 0
    for pixel in range(labels.size):
        if labels[pixel] != ignore_index:
            places[num_pixels] = pixel
            num_pixels += 1
    loss = 0.0
    for direct in (False, True):  # first all pixels the fast way, then those it left in doubt
        if not direct and table.num_classes <= MOST_DIRECT:
            continue
        num_doubtful = 0
        for first in range(0, num_pixels, size):
            fill(block, table, pixels, places[first : min(first + size, num_pixels)], True)
            shortlist(block, table, num_neighbours, direct)
            if not direct:
                num_doubtful = set_doubtful_aside(block, num_neighbours, places, num_doubtful)
            _measure(block, table, labels, num_neighbours, direct, weights)
            of_all = _softmax(block, num_neighbours, plain, sharpness, gradient_scale, weights)
            loss += _apply(class_weights, block, labels, num_neighbours, weights) if class_weights.size > 0 else of_all
            if gradient_scale != 0:
                _propagate(block, table, labels, num_neighbours, weights, pixel_gradient, class_gradient)
        # as in `_nearest`: doubtful places were written over the front of the list, which had been read by then
        num_pixels = num_doubtful
    return loss


@njit
def _measure(block: Block, table: ClassTable, labels: np.ndarray, num_neighbours: int, direct: bool, weights: np.ndarray) -> None:
    """Squared distances to the target (row 0) and to the neighbours; infinite where a neighbour is the target, or a lane holds no pixel.

    Where the search was direct, its scores are the distances.
    """
    size = block_size(block)
    for lane in range(size):
        place = block.place[lane]
        if place < 0:
            # a distance of 0 to its target and no other candidate: such a lane costs nothing and pulls nothing
            weights[lane] = 0
            for slot in range(num_neighbours):
                weights[(slot + 1) * size + lane] = np.inf
            continue
        target = labels[place]
        weights[lane] = squared_distance(block, table, lane, target)
        for slot in range(num_neighbours):
            number = block.ids[slot * size + lane]
            distance = -block.scores[slot * size + lane] if direct else squared_distance(block, table, lane, number)
            weights[(slot + 1) * size + lane] = np.inf if number == target else distance


@njit
def _softmax(block: Block, num_neighbours: int, plain: bool, sharpness: float, gradient_scale: float, weights: np.ndarray) -> float:
    """Squared distances → ∂loss/∂(x − μ) as a multiple of x − μ, in place; returns the sum of the losses.

    The loss is log(1 + Σ exp gap) over the others. The target's 1 stays out of the sum, and its p − 1 is minus the sum of the other p:
    late in training both are far below the rounding error of 1.
    """
    size = block_size(block)
    end = (num_neighbours + 1) * size
    highest, excess = block.margin, block.runner_up  # free by now
    zero, one, factor = spread(weights, 0), spread(weights, 1), spread(weights, sharpness)
    stretch = spread(weights, sharpness * gradient_scale * (1 if plain else 2))
    for lane in range(0, size, size // 2):
        if plain:
            for place in range(lane, end, size):
                store(weights, place, square_root(load(weights, place)))
        own_distance = load(weights, lane)
        peak = zero  # the gap of the target itself
        for place in range(lane + size, end, size):
            peak = larger((own_distance - load(weights, place)) * factor, peak)
        others, own = zero, _exp(weights, zero - peak)
        for place in range(lane + size, end, size):
            distance = load(weights, place)
            share = _exp(weights, (own_distance - distance) * factor - peak)
            others = others + share
            store(weights, place, _per_distance(zero - share, distance, plain))
        store(highest, lane, peak)
        # where the target is nearest, own is exactly 1, and small others keep their digits
        store(excess, lane, others + (own - one))
        pull = stretch / (own + others)
        for place in range(lane + size, end, size):
            store(weights, place, load(weights, place) * pull)
        store(weights, lane, _per_distance(others * pull, own_distance, plain))
    loss, product = 0.0, 0.0  # Σ log1p(a) = log1p(Π (1 + a) − 1), built without losing a small a beside the 1
    for lane in range(size):
        loss += highest[lane]
        # 1 + excess is at most K + 1, so the product of a block's lanes stays inside float64
        product += excess[lane] + product * excess[lane]
    return loss + math.log1p(product)


@njit
def _apply(class_weights: np.ndarray, block: Block, labels: np.ndarray, num_neighbours: int, weights: np.ndarray) -> float:
    """Multiply what `_softmax` made with the weight of each pixel's target; the weighted sum of the losses."""
    size = block_size(block)
    highest, excess = block.margin, block.runner_up  # as `_softmax` left them
    loss = 0.0
    for lane in range(size):
        if block.place[lane] >= 0:
            weight = class_weights[labels[block.place[lane]]]
            loss += weight * (highest[lane] + math.log1p(excess[lane]))
            for slot in range(num_neighbours + 1):
                weights[slot * size + lane] *= weight
    return loss


@njit(forceinline=True)
def _per_distance(weight: Any, distance: Any, plain: bool) -> Any:
    """The gradient of the plain distance is (x − μ) / distance, and taken as zero at zero."""
    if not plain:
        return weight
    zero = weight - weight
    return select(distance == zero, zero, weight / distance)


@njit(forceinline=True)
def _exp(like: np.ndarray, x: Any) -> Any:
    """eˣ for x ≤ 0, to the last bits; 0 where it would not be a normal number. `like` is any array of the same type."""
    # eˣ = 2ⁿ · eʳ with |r| ≤ ln 2 / 2, where the series is short
    exponent = nearest_integer(x * spread(like, 1 / math.log(2)))
    # ln 2 in two parts: the first has so few bits that its products with an exponent are exact
    rest = x - exponent * spread(like, 0.693359375) - exponent * spread(like, -2.1219444005469058e-4)
    series = spread(like, INVERSE_FACTORIALS[0])
    for i in range(1, len(INVERSE_FACTORIALS)):
        series = series * rest + spread(like, INVERSE_FACTORIALS[i])
    return select(x < spread(like, -87 if like.itemsize == 4 else -708), spread(like, 0), series * power_of_two(exponent))


@njit
def _propagate(
    block: Block,
    table: ClassTable,
    labels: np.ndarray,
    num_neighbours: int,
    weights: np.ndarray,
    pixel_gradient: np.ndarray,
    class_gradient: np.ndarray,
) -> None:
    size, width = block_size(block), table.padded_dim
    for lane in range(size):
        place = block.place[lane]
        if place < 0:
            continue
        target = labels[place] * width
        for d in range(0, width, size // 2):
            x = load(block.rows, lane * width + d)
            gradient = _pull(table.rows, class_gradient, target + d, x, weights, lane)
            for slot in range(num_neighbours):
                number = block.ids[slot * size + lane]
                gradient = gradient + _pull(table.rows, class_gradient, number * width + d, x, weights, (slot + 1) * size + lane)
            # by way of the scratch, as the coordinates of a pixel lie far apart in the gradient
            store(block.scratch, d, gradient)
        for d in range(table.dim):
            pixel_gradient[d, place] = block.scratch[d]


@njit(forceinline=True)
def _pull(rows: np.ndarray, class_gradient: np.ndarray, at: int, x: Any, weights: np.ndarray, weight: int) -> Any:
    """Gradient of the pixel by one candidate; that of the candidate is its opposite."""
    step = (x - load(rows, at)) * spread(rows, weights[weight])
    store(class_gradient, at, load(class_gradient, at) - step)
    return step
