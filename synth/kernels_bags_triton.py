# mypy: disable-error-code="no-untyped-def"
"""Triton kernel of a product of a sparse matrix with dense rows, the matrix given as bags: see `synth.gathered_convolution`.

Shapes: B bags, E entries, R rows, O channels; tiles of BLOCK_B bags and BLOCK_O channels.

Bytes that have to move: the indices of the entries, every used row once and the results, O·(R + B)·size + 8·(E + B). A row that many
bags use comes from the caches, at E·O·size bytes, which bound the kernel where bags are long: nine rows for a patch of a 3×3 kernel.
"""

import triton
import triton.language as tl


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
