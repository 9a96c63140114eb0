"""Whether the Triton kernels can be relied on here: they are taken on CUDA only after they agreed with plain torch on the device."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from shared.kernels import kernels_agree, kernels_missing
from synth.bags_triton import DTYPES, triton_bag_sums
from synth.bags_triton import MODULE as BAGS
from synth.gathered_convolution import Geometry, distinct_patches, torch_bag_sums
from synth.modulation_torch import TorchSweeps
from synth.modulation_triton import MODULE as MODULATION
from synth.modulation_triton import TritonSweeps

_TOLERANCE = 1e-4  # relative; sums in another order are good to about 1e-6


def bags_by_triton(rows: Tensor) -> bool:
    """Whether Triton sums these rows."""
    return rows.device.type == "cuda" and rows.dtype in DTYPES and bags_agree(rows.device)


def modulation_by_triton(x: Tensor, rows: Tensor) -> bool:
    """Whether Triton modulates these features by these rows."""
    return x.device.type == "cuda" and x.dtype in DTYPES and rows.dtype in DTYPES and modulation_agrees(x.device)


@cache
def bags_agree(device: torch.device) -> bool:
    """Whether sums over bags of every kind are those of plain torch on this device; checked once, in the seconds of compilation."""
    if kernels_missing(BAGS, device):
        return False
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(0, 12, (120,), generator=generator)
    indices = torch.randint(0, 100, (int(lengths.sum()),), generator=generator).to(device)
    offsets, one_each = (lengths.cumsum(0) - lengths).to(device), torch.arange(len(indices), device=device)
    rows, weights = torch.randn(100, 72, generator=generator).to(device), torch.rand(len(indices), generator=generator).to(device)
    bags = [(indices, offsets, None), (indices, offsets, weights), (indices, one_each, None), (None, offsets // 20, None)]

    def results(bag_sums: Callable[..., Tensor]) -> list[Tensor]:
        return [bag_sums(rows, *some) for some in bags]

    return kernels_agree(
        lambda: results(triton_bag_sums), lambda: results(torch_bag_sums), where=str(device), what="sums over bags", tolerance=_TOLERANCE
    )


@cache
def modulation_agrees(device: torch.device) -> bool:
    """The same for the sweeps of the modulation."""
    if kernels_missing(MODULATION, device):
        return False
    generator = torch.Generator().manual_seed(0)
    ids = torch.zeros(1, 20, 30, dtype=torch.int64)
    ids[:, :6, :8] = torch.randint(0, 3, (6, 8), generator=generator)  # many patches, and one that is longer than a segment
    ids = ids.to(device)
    patches = distinct_patches(ids, 3, Geometry((3, 3), (1, 1), (1, 1)))
    x, d = torch.randn(2, ids.numel(), 40, generator=generator).to(device)
    rows, channels = (torch.randn(count, width, generator=generator).to(device) for count, width in ((len(patches.members), 80), (4, 40)))
    (a, b, *means), index, slope = channels, patches.of_pixel.indices, 0.2

    def results(sweeps: TorchSweeps | TritonSweeps) -> list[Tensor]:
        y = TorchSweeps().apply(x, a, b, rows, index, slope)
        return [
            *sweeps.moments(x),
            sweeps.apply(x, a, b, rows, index, slope),
            sweeps.row_gradients(x, a, b, y, d, slope, patches.of_pixel),
            sweeps.input_gradient(x, a, b, y, d, slope, rows, index, (means[0], means[1])),
        ]

    return kernels_agree(
        lambda: results(TritonSweeps()), lambda: results(TorchSweeps()), where=str(device), what="the modulation", tolerance=_TOLERANCE
    )
