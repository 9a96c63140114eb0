"""Sums over bags on CUDA: what the Triton kernel (`synth.kernels_bags_triton`) is given.

Shapes: B bags, E entries, R rows, O channels.

Checked in Triton's interpreter and by compiling for sm_90. Nothing here has run on a GPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.kernels import require_kernels

MODULE = "synth.kernels_bags_triton"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""What the kernels of this package read and write; they compute in float32."""
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}
"""Of Triton's compiler: products and sums fused whatever its default is."""


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
    """The sum of the rows of each bag: (B, O).

    rows: (R, O) of one of DTYPES. indices: (E,) int64 row of each entry, bag after bag; None: every row once, in order. offsets: (B,) int64
    first entry of each bag. weights: (E,), or None: all 1. dtype: of the result; None: that of the rows.
    """
    require_kernels(MODULE, rows, what="rows", instead="torch")
    from synth.kernels_bags_triton import bag_kernel

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
