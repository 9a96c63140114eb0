"""The sweeps of `synth.modulation` on the CPU, compiled: each reads its inputs once, and threads share the pixels."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from shared.threads import run_in_threads
from synth import kernels_numba_modulation as kernels
from synth.gathered_convolution import Bags

WORTH_A_THREAD = 2**14  # numbers


class NumbaSweeps:
    """`synth.modulation.Sweeps` for float32."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Sweeps`. Sums are of differences from the first pixel, in float64 over blocks of pixels."""
        kernel, shares = kernels.moments_kernel(), _shares(len(x), x.shape[1])
        sums = torch.zeros(len(shares), 2, x.shape[1], dtype=torch.float64)
        run_in_threads(lambda share: kernel(x.numpy(), share[0], share[1], sums[share[2]].numpy()), shares)
        offset, square = sums.sum(0) / len(x)
        return (x[0] + offset).float(), (square - offset.square()).clamp_(min=0).float()

    def apply(self, x: Tensor, a: Tensor, b: Tensor, rows: Tensor, index: Tensor, slope: float) -> Tensor:
        """See `Sweeps`."""
        y = torch.empty_like(x)
        arrays = x.numpy(), a.numpy(), b.numpy(), rows.detach().numpy(), index.numpy(), slope, y.numpy()
        _sweep(kernels.apply_kernel(), arrays, len(x), x.shape[1])
        return y

    def row_gradients(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, of_pixel: Bags) -> Tensor:
        """See `Sweeps`."""
        lists = of_pixel.transposed
        sums = x.new_zeros(len(lists.segments), 2 * x.shape[1])
        arrays = x.numpy(), a.numpy(), b.numpy(), y.numpy(), d.numpy(), slope, lists.bags.numpy(), lists.segments.numpy(), sums.numpy()
        kernel, shares = kernels.row_gradients_kernel(), _shares(len(x), x.shape[1])
        firsts = torch.searchsorted(lists.segments, torch.tensor([start for start, _, _ in shares])).tolist() + [len(lists.segments)]
        run_in_threads(lambda share: kernel(*arrays, firsts[share[2]], firsts[share[2] + 1]), shares)
        return sums

    def input_gradient(
        self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, rows: Tensor, index: Tensor, means: tuple[Tensor, Tensor]
    ) -> Tensor:
        """See `Sweeps`."""
        gradient = torch.empty_like(x)
        arrays = (x, a, b, y, d, slope, rows, index, *means, gradient)
        plain = tuple(value.numpy() if isinstance(value, Tensor) else value for value in arrays)
        _sweep(kernels.input_gradient_kernel(), plain, len(x), x.shape[1])
        return gradient


def _sweep(kernel: Callable[..., None], arrays: tuple[object, ...], count: int, channels: int) -> None:
    run_in_threads(lambda share: kernel(*arrays, share[0], share[1]), _shares(count, channels))


@cache
def _shares_of(count: int, threads: int) -> list[tuple[int, int, int]]:
    return [(count * i // threads, count * (i + 1) // threads, i) for i in range(threads)]


def _shares(count: int, channels: int) -> list[tuple[int, int, int]]:
    """First pixel, end and number of every thread's share."""
    return _shares_of(count, max(1, min(torch.get_num_threads(), count * channels // WORTH_A_THREAD, count)))
