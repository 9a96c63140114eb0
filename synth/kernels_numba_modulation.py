"""The loops over pixels of `synth.modulation_numba`, compiled. The innermost ones run over the channels of a pixel, as vectors.

Shapes: P pixels, C channels, U rows. `start` and `stop` bound the pixels, or segments, of a call.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import types

from shared.kernels import compiled

VECTOR, MATRIX = types.float32[::1], types.float32[:, ::1]
IDS, INTEGER = types.int64[::1], types.int64
BLOCK = 64  # pixels that are summed in float32


@cache
def moments_kernel() -> Callable[..., None]:
    """`_moments`, compiled."""
    return compiled(_moments, types.void, MATRIX, INTEGER, INTEGER, types.float64[:, ::1])


@cache
def apply_kernel() -> Callable[..., None]:
    """`_apply`, compiled."""
    return compiled(_apply, types.void, MATRIX, VECTOR, VECTOR, MATRIX, IDS, types.float32, MATRIX, INTEGER, INTEGER)


@cache
def row_gradients_kernel() -> Callable[..., None]:
    """`_row_gradients`, compiled."""
    inputs: list[Any] = [MATRIX, VECTOR, VECTOR, MATRIX, MATRIX, types.float32, IDS, IDS]
    return compiled(_row_gradients, types.void, *inputs, MATRIX, INTEGER, INTEGER)


@cache
def input_gradient_kernel() -> Callable[..., None]:
    """`_input_gradient`, compiled."""
    inputs: list[Any] = [MATRIX, VECTOR, VECTOR, MATRIX, MATRIX, types.float32, MATRIX, IDS, VECTOR, VECTOR]
    return compiled(_input_gradient, types.void, *inputs, MATRIX, INTEGER, INTEGER)


def _moments(x: np.ndarray, start: int, stop: int, sums: np.ndarray) -> None:
    """Add to sums (2, C) the differences of pixels from the first of all, and their squares."""
    channels = x.shape[1]
    origin = x[0]
    first, second = np.empty(channels, np.float32), np.empty(channels, np.float32)
    for begin in range(start, stop, BLOCK):
        first[:] = 0
        second[:] = 0
        for p in range(begin, min(begin + BLOCK, stop)):
            pixel = x[p]
            for c in range(channels):
                difference = pixel[c] - origin[c]
                first[c] += difference
                second[c] += difference * difference
        for c in range(channels):
            sums[0, c] += first[c]
            sums[1, c] += second[c]


def _apply(
    x: np.ndarray, a: np.ndarray, b: np.ndarray, rows: np.ndarray, index: np.ndarray, slope: Any, y: np.ndarray, start: int, stop: int
) -> None:
    """y = LeakyReLU((a·x + b)·scale + shift)."""
    channels = x.shape[1]
    for p in range(start, stop):
        pixel, result, row = x[p], y[p], rows[index[p]]
        scale, shift = row[:channels], row[channels:]
        for c in range(channels):
            value = (pixel[c] * a[c] + b[c]) * scale[c] + shift[c]
            result[c] = value if value > 0 else slope * value


def _row_gradients(
    x: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    y: np.ndarray,
    d: np.ndarray,
    slope: Any,
    pixels: np.ndarray,
    segments: np.ndarray,
    sums: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Sums (segments, 2·C), zero before: d·x̂ and d of the pixels of each segment, d taken before the activation.

    pixels: (P,) sorted by row. segments: first entry of each in `pixels`.
    """
    channels = x.shape[1]
    for s in range(start, stop):
        of_scale, of_shift = sums[s, :channels], sums[s, channels:]
        end = segments[s + 1] if s + 1 < len(segments) else len(pixels)
        for entry in range(segments[s], end):
            p = pixels[entry]
            pixel, result, gradient = x[p], y[p], d[p]
            for c in range(channels):
                value = gradient[c] if result[c] > 0 else slope * gradient[c]
                of_scale[c] += value * (pixel[c] * a[c] + b[c])
                of_shift[c] += value


def _input_gradient(
    x: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    y: np.ndarray,
    d: np.ndarray,
    slope: Any,
    rows: np.ndarray,
    index: np.ndarray,
    mean: np.ndarray,
    mean_product: np.ndarray,
    gradient: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """gradient = a·(d·scale − mean − x̂·mean_product), d taken before the activation."""
    channels = x.shape[1]
    for p in range(start, stop):
        pixel, result, incoming, outgoing, scale = x[p], y[p], d[p], gradient[p], rows[index[p]]
        for c in range(channels):
            value = incoming[c] if result[c] > 0 else slope * incoming[c]
            outgoing[c] = a[c] * (value * scale[c] - mean[c] - (pixel[c] * a[c] + b[c]) * mean_product[c])
