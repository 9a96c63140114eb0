"""What the machine can do at best, measured, and the time below which a task cannot be done on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

MEASURING_SECONDS = 0.3
"""Time given to each ceiling, once warm."""


@dataclass(frozen=True)
class Ceilings:
    """The best rates of one device.

    Attributes:
        copy: bytes per second, read and written, of a copy far larger than the caches.
        matrix: floating-point operations per second of a large matrix product; float32 on the CPU, float16 on CUDA.
        exponential: base-2 exponentials per second, on numbers that stay in the cache or in registers.
    """

    copy: float
    matrix: float
    exponential: float

    def or_better(self, other: "Ceilings") -> "Ceilings":
        """The better of two measurements, rate by rate: what others did to the machine can only lower them."""
        return Ceilings(max(self.copy, other.copy), max(self.matrix, other.matrix), max(self.exponential, other.exponential))


@dataclass(frozen=True)
class Work:
    """What a task cannot do without: bytes of inputs read and results written, operations of matrix products, exponentials."""

    bytes: float
    flops: float
    exponentials: float = 0.0

    def floor(self, ceilings: Ceilings) -> tuple[float, str]:
        """Seconds that the task takes at least, and which of the three is the reason; they may overlap in time, so the largest counts."""
        parts = {
            "bytes": self.bytes / ceilings.copy,
            "matrix": self.flops / ceilings.matrix,
            "exponential": self.exponentials / ceilings.exponential,
        }
        return max((seconds, name) for name, seconds in parts.items())


def measure_ceilings(device: torch.device) -> Ceilings:
    """Measure in under two seconds. The fastest repetition counts: a ceiling that another process lowered is none."""
    on_gpu = device.type == "cuda"
    # ones, as pages that were never written are all one page of zeros, which stays in a cache
    source = torch.ones((2**30 if on_gpu else 2**27) // 4, device=device)
    target = torch.empty_like(source)
    return Ceilings(
        copy=2 * source.nbytes / fastest(lambda: target.copy_(source), device),
        matrix=matrix_rate(device, torch.float16 if on_gpu else torch.float32),
        exponential=exponential_rate(device),
    )


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of a large matrix product, at the precision that torch is set to."""
    size = 8192 if device.type == "cuda" else 1024
    left = torch.randn(size, size, device=device, dtype=dtype)
    product = torch.empty_like(left)
    return 2 * size**3 / fastest(lambda: torch.mm(left, left, out=product), device)


def exponential_rate(device: torch.device) -> float:
    """Base-2 exponentials per second."""
    if device.type == "cuda":
        from shared.benchmark.exponentials_triton import exponentials

        count = exponentials(device)
        return count / fastest(lambda: exponentials(device), device)
    # results from 2⁻⁴⁰ on: denormal ones would be slow
    tile = -40 * torch.rand(2**16)  # 256 KiB, in a core's cache
    powers = torch.empty_like(tile)
    return tile.numel() / fastest(lambda: torch.exp2(tile, out=powers), device)


def fastest(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the fastest of the calls that fit into the measuring time, at least three."""
    best, runs, begun = float("inf"), 0, time.perf_counter()
    while runs < 3 or time.perf_counter() - begun < MEASURING_SECONDS:
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best, runs = min(best, time.perf_counter() - started), runs + 1
    return best
