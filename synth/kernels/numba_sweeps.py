"""The sweeps of `synth.kernels.modulation` on the CPU, compiled: each reads its inputs once, and threads share the pixels.

The innermost loops run over the channels of a pixel, as vectors. Letters: P pixels, C channels, U rows. `start` and `stop` bound the
pixels, or segments, of a call.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numba import types
from torch import Tensor

from shared.kernels import compiled, run_in_threads
from synth.kernels.bags import Bags

WORTH_A_THREAD = 2**14  # numbers


VECTOR, MATRIX = types.float32[::1], types.float32[:, ::1]
IDS, INTEGER = types.int64[::1], types.int64
BLOCK = 64  # pixels that are summed in float32


class NumbaSweeps:
    """`synth.kernels.sweeps.Sweeps` for float32."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Sweeps`. Sums are of differences from the first pixel, in float64 over blocks of pixels."""
        bounds = _bounds(x)
        sums = torch.zeros(len(bounds), 2, x.shape[1], dtype=torch.float64)
        _run(moments_kernel(), [(x, *bound, part) for bound, part in zip(bounds, sums)])
        offset, square = sums.sum(0) / len(x)
        # the mean is near 0 here, so the difference keeps its digits; rounding may still leave it just below 0
        return (x[0] + offset).float(), (square - offset.square()).clamp_(min=0).float()

    def apply(self, x: Tensor, a: Tensor, b: Tensor, rows: Tensor, index: Tensor, slope: float) -> Tensor:
        """See `Sweeps`."""
        y = torch.empty_like(x)
        _run(apply_kernel(), [(x, a, b, rows, index, slope, y, *bound) for bound in _bounds(x)])
        return y

    def row_gradients(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, of_pixel: Bags) -> Tensor:
        """See `Sweeps`."""
        lists = of_pixel.transposed
        sums = x.new_zeros(len(lists.segments), 2 * x.shape[1])
        firsts = torch.searchsorted(lists.segments, torch.tensor([start for start, _ in _bounds(x)])).tolist()
        shares = pairwise([*firsts, len(lists.segments)])  # a segment belongs to the thread whose pixels it begins among
        _run(row_gradients_kernel(), [(x, a, b, y, d, slope, lists.bags, lists.segments, sums, *share) for share in shares])
        return sums

    def input_gradient(
        self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, rows: Tensor, index: Tensor, means: tuple[Tensor, Tensor]
    ) -> Tensor:
        """See `Sweeps`."""
        gradient = torch.empty_like(x)
        inputs = (x, a, b, y, d, slope, rows, index, *means, gradient)
        _run(input_gradient_kernel(), [(*inputs, *bound) for bound in _bounds(x)])
        return gradient


def _bounds(x: Tensor) -> list[tuple[int, int]]:
    """First pixel and end of every thread's share."""
    threads = max(1, min(torch.get_num_threads(), x.numel() // WORTH_A_THREAD))
    return list(pairwise(len(x) * number // threads for number in range(threads + 1)))


def _run(kernel: Callable[..., None], calls: list[tuple[Any, ...]]) -> None:
    """Each call on a thread, with tensors as arrays."""
    run_in_threads(lambda values: kernel(*(v.detach().numpy() if isinstance(v, Tensor) else v for v in values)), calls)


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
