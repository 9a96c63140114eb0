"""The Triton kernels as compiled for a GPU, which needs none."""

from typing import Any

from shared.benchmark.isolation import Failed, reason


def compiled_kernels() -> list[Any]:
    """Registers, spills and instructions per number of the kernels for float32 and bfloat16, 128 channels.

    Raises:
        Failed: with the reason, such as that Triton is not installed.
    """
    try:
        import torch

        from synth.benchmark.static_kernels import compile_kernels, kernel_cases

        return list(compile_kernels(kernel_cases(128, (torch.float32, torch.bfloat16))))
    except Exception as error:
        raise Failed(reason(error)) from error
