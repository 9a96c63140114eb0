"""The Triton kernels as compiled for a GPU, which needs none."""

from typing import Any


def compiled_kernels() -> list[Any]:
    """Registers, spills and instructions per pair of the kernels; nothing where Triton or the kernels are missing."""
    try:
        from seg.benchmark.static_kernels import compile_kernels
    except ImportError:
        return []
    return list(compile_kernels())
