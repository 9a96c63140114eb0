"""The part of a kernel that the classes of a batch use, and its gradient, which is zero for all other classes.

Letters: O output channels, S width of the semantics, K classes that occur.
"""

import math
import mmap
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WORTH_A_MAPPING = 2**22  # bytes


def columns_of(kernel: Tensor, classes: Tensor) -> Tensor:
    """kernel: (O, S, kh, kw). classes: (K,) int64 in [0, S), which may repeat. Returns (O, K, kh, kw).

    The gradient has the shape of the kernel, as an optimiser wants it; on a CPU it takes time and memory only for what is not zero.
    """
    return _Columns.apply(kernel, classes)


class _Columns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: Tensor, classes: Tensor) -> Tensor:
        ctx.size = kernel.shape
        ctx.save_for_backward(classes)
        return kernel.index_select(1, classes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        # added, as a class may occur twice: on an edge and off it
        return zeros(ctx.size, gradient).index_add_(1, ctx.saved_tensors[0], gradient), None


def zeros(size: torch.Size, like: Tensor) -> Tensor:
    """Zeros of the type and device of `like`. Large ones on a CPU are fresh pages of the system, which are zero without being written."""
    num_bytes = math.prod(size) * like.element_size()
    if like.device.type != "cpu" or num_bytes < WORTH_A_MAPPING:
        return like.new_zeros(size)
    # the tensor holds the mapping, which is given back with it
    return torch.frombuffer(mmap.mmap(-1, num_bytes), dtype=like.dtype).view(size)
