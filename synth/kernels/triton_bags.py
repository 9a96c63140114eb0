# mypy: disable-error-code="no-untyped-def"
"""Sums over bags on CUDA: the Triton kernel, what it is given, and whether it agrees with plain torch on a device.

Shapes: B bags, E entries, R rows, O channels; tiles of BLOCK_B bags and BLOCK_O channels.

Bytes that have to move: the indices of the entries, every used row once and the results, O·(R + B)·size + 8·(E + B). A row that many
bags use comes from the caches, at E·O·size bytes, which bound the kernel where bags are long: nine rows for a patch of a 3×3 kernel.

Checked in Triton's interpreter, by compiling for sm_90, and on an H200 (docs/results/gpu).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from shared.kernels import kernels_agree, require_kernels
from synth.kernels.bags import torch_bag_sums

MODULE = "synth.kernels.triton_bags"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""What the kernels of this package read and write; they compute in float32."""
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}
"""Of Triton's compiler: products and sums fused whatever its default is."""
TOLERANCE = 1e-4  # relative; sums in another order are good to about 1e-6


@dataclass(frozen=True)
class BagLaunch:
    """Bags and channels of a tile, and entries loaded at a time."""

    block_b: int
    block_o: int
    step: int

    def tile(self) -> dict[str, int]:
        """Compile-time arguments of the kernel."""
        return {"BLOCK_B": self.block_b, "BLOCK_O": self.block_o, "STEP": self.step}


def bag_launch(num_entries: int, num_bags: int, width: int, rows: torch.dtype, gathered: bool) -> BagLaunch:
    """Fixed, nothing is tuned at run time: 16 bytes for each of 128 threads are loaded per entry, eight entries at a time.

    Where the average bag has no second entry, one is loaded; where rows are read in order, so that no index comes first, sixteen.
    Rows whose width is no multiple of 16 are loaded number by number, and registers then suffice for four numbers of each thread.
    """
    block_o = min(128, max(16, 1 << (width - 1).bit_length()))
    step = 1 if num_entries <= num_bags else 8 if gathered else 16
    numbers = 512 if width % 16 else 2048 // rows.itemsize
    return BagLaunch(numbers // block_o, block_o, step)


def triton_bag_sums(
    rows: Tensor, indices: Tensor | None, offsets: Tensor, weights: Tensor | None, dtype: torch.dtype | None = None
) -> Tensor:
    """`torch_bag_sums` for rows of one of DTYPES, summed in float32."""
    require_kernels(MODULE, rows, what="rows", instead="torch")
    rows = rows.contiguous()
    width, num_bags, num_entries = rows.shape[1], len(offsets), len(rows if indices is None else indices)
    sums = rows.new_empty(num_bags, width, dtype=dtype)
    if sums.numel() == 0:
        return sums
    launch = bag_launch(num_entries, num_bags, width, rows.dtype, indices is not None)
    grid = (-(-num_bags // launch.block_b), -(-width // launch.block_o))
    with torch.cuda.device_of(rows):
        bag_kernel[grid](
            rows, rows if indices is None else indices, offsets, rows if weights is None else weights.float(), sums,
            num_bags, num_entries, width, GATHERED=indices is not None, WEIGHTED=weights is not None, **launch.tile(), **OPTIONS,
        )  # fmt: skip
    return sums


@triton.jit
def bag_kernel(
    rows, indices, offsets, weights, sums, num_bags, num_entries, width,
    GATHERED: tl.constexpr, WEIGHTED: tl.constexpr, BLOCK_B: tl.constexpr, BLOCK_O: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Sum of the rows of each bag, in float32 and in the order of the entries: no atomics, the same result every time.

    Args:
        rows: (R, O). sums: (B, O).
        indices: (E,) int64 row of each entry. GATHERED only; else the entries are the rows themselves, in their order.
        offsets: (B,) int64 first entry of each bag.
        weights: (E,) float32. WEIGHTED only.
        STEP: entries that are loaded at a time; a bag waits for memory once in so many.
    """
    bag = tl.program_id(0).to(tl.int64) * BLOCK_B + tl.arange(0, BLOCK_B)
    channel = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    first = tl.load(offsets + bag, mask=bag < num_bags, other=num_entries)
    last = tl.load(offsets + bag + 1, mask=bag + 1 < num_bags, other=num_entries)
    columns = channel < width
    total = tl.zeros([BLOCK_B, BLOCK_O], tl.float32)
    for start in range(0, tl.max(last - first, 0), STEP):
        # steps lead the shape: Triton then keeps them in one thread's registers, and adding them up moves nothing
        entry = first[None, :] + start + tl.arange(0, STEP)[:, None]
        used = entry < last[None, :]
        row = tl.load(indices + entry, mask=used, other=0) if GATHERED else entry
        places = row[:, :, None] * width + channel[None, None, :]
        values = tl.load(rows + places, mask=used[:, :, None] & columns[None, None, :], other=0.0).to(tl.float32)
        if WEIGHTED:
            values *= tl.load(weights + entry, mask=used, other=0.0)[:, :, None]
        total += tl.sum(values, 0)
    tl.store(sums + bag[:, None] * width + channel[None, :], total, mask=(bag < num_bags)[:, None] & columns[None, :])


@cache
def bags_agree(device: torch.device, dtype: torch.dtype = torch.float32) -> bool:
    """Whether sums over bags of every kind of such rows are those of plain torch on this device; checked once, in the seconds of
    compilation."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(0, 12, (120,), generator=generator)
    indices = torch.randint(0, 100, (int(lengths.sum()),), generator=generator).to(device)
    offsets, one_each = (lengths.cumsum(0) - lengths).to(device), torch.arange(len(indices), device=device)
    rows, weights = torch.randn(100, 72, generator=generator).to(device), torch.rand(len(indices), generator=generator).to(device)
    bags = [(indices, offsets, None), (indices, offsets, weights), (indices, one_each, None), (None, offsets // 20, None)]

    rows = rows.to(dtype)

    def results(bag_sums: Callable[..., Tensor], rows: Tensor) -> list[Tensor]:
        return [bag_sums(rows, *some) for some in bags]

    return kernels_agree(
        lambda: results(triton_bag_sums, rows),
        lambda: results(torch_bag_sums, rows.float()),
        where=str(device),
        what="sums over bags",
        tolerance=tolerance_of(dtype),
    )


def tolerance_of(dtype: torch.dtype) -> float:
    """Largest relative error of results in this type."""
    return max(TOLERANCE, 4 * torch.finfo(dtype).eps)
