"""The sweeps of `synth.modulation` on the CPU, compiled: each reads its inputs once, and threads share the pixels."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from shared.kernels import run_in_threads
from synth import kernels_numba_modulation as kernels
from synth.gathered_convolution import Bags

WORTH_A_THREAD = 2**14  # numbers


class NumbaSweeps:
    """`synth.modulation.Sweeps` for float32."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Sweeps`. Sums are of differences from the first pixel, in float64 over blocks of pixels."""
        bounds = _bounds(x)
        sums = torch.zeros(len(bounds), 2, x.shape[1], dtype=torch.float64)
        _run(kernels.moments_kernel(), [(x, *bound, part) for bound, part in zip(bounds, sums)])
        offset, square = sums.sum(0) / len(x)
        return (x[0] + offset).float(), (square - offset.square()).clamp_(min=0).float()

    def apply(self, x: Tensor, a: Tensor, b: Tensor, rows: Tensor, index: Tensor, slope: float) -> Tensor:
        """See `Sweeps`."""
        y = torch.empty_like(x)
        _run(kernels.apply_kernel(), [(x, a, b, rows, index, slope, y, *bound) for bound in _bounds(x)])
        return y

    def row_gradients(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, of_pixel: Bags) -> Tensor:
        """See `Sweeps`."""
        lists = of_pixel.transposed
        sums = x.new_zeros(len(lists.segments), 2 * x.shape[1])
        firsts = torch.searchsorted(lists.segments, torch.tensor([start for start, _ in _bounds(x)])).tolist()
        shares = pairwise([*firsts, len(lists.segments)])  # a segment belongs to the thread whose pixels it begins among
        _run(kernels.row_gradients_kernel(), [(x, a, b, y, d, slope, lists.bags, lists.segments, sums, *share) for share in shares])
        return sums

    def input_gradient(
        self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, rows: Tensor, index: Tensor, means: tuple[Tensor, Tensor]
    ) -> Tensor:
        """See `Sweeps`."""
        gradient = torch.empty_like(x)
        inputs = (x, a, b, y, d, slope, rows, index, *means, gradient)
        _run(kernels.input_gradient_kernel(), [(*inputs, *bound) for bound in _bounds(x)])
        return gradient


def _bounds(x: Tensor) -> list[tuple[int, int]]:
    """First pixel and end of every thread's share."""
    threads = max(1, min(torch.get_num_threads(), x.numel() // WORTH_A_THREAD))
    return list(pairwise(len(x) * number // threads for number in range(threads + 1)))


def _run(kernel: Callable[..., None], calls: list[tuple[Any, ...]]) -> None:
    """Each call on a thread, with tensors as arrays."""
    run_in_threads(lambda values: kernel(*(v.detach().numpy() if isinstance(v, Tensor) else v for v in values)), calls)
