"""The Triton kernels as compiled for a GPU, which needs none."""

from typing import Any

from shared.benchmark.isolation import Failed, reason


def compiled_kernels(dim: int) -> list[Any]:
    """Registers, spills and instructions per pair of the kernels for float32 pixels of `dim` channels.

    Raises:
        Failed: with the reason, such as that Triton is not installed.
    """
    try:
        from seg.benchmark.static_kernels import compile_kernels, kernel_cases

        return list(compile_kernels(kernel_cases(dims=(dim,), dtypes=("float32",))))
    except Exception as error:
        raise Failed(reason(error)) from error
