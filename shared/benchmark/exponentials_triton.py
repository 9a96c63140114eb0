"""The rate of a GPU's exponential units, which no torch operation reaches: those wait for memory."""

import torch
import triton
import triton.language as tl

ROUNDS = 256
BLOCK = 1024


@triton.jit
def _exponentials_kernel(pointer, ROUNDS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(pointer + place)
    for _ in range(ROUNDS):
        value = tl.exp2(-value)  # tends to 0.64, so never overflows
    tl.store(pointer + place, value)


def exponentials(device: torch.device) -> int:
    """Compute many exponentials in registers; returns how many."""
    blocks = 64 * torch.cuda.get_device_properties(device).multi_processor_count
    values = torch.zeros(blocks * BLOCK, device=device)
    _exponentials_kernel[(blocks,)](values, ROUNDS=ROUNDS, BLOCK=BLOCK)
    return blocks * BLOCK * ROUNDS
