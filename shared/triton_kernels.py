"""When Triton kernels can be used: whether they load, on which devices they run, and whether they agree with plain torch there."""

import warnings
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module

import torch

from shared.errors import InputError


@cache
def kernel_obstacle(module: str) -> str:
    """Why a module of kernels, or Triton itself, cannot be loaded; empty where it can."""
    try:
        import_module(module)
    except ImportError as error:
        return str(error)
    return ""


def kernels_missing(module: str, device: torch.device) -> bool:
    """Whether kernels that would run on `device` cannot be loaded; if so, a warning says it."""
    obstacle = kernel_obstacle(module)
    if obstacle:
        warnings.warn(f"the Triton kernels cannot be loaded ({obstacle}); plain torch computes on {device}, more slowly", stacklevel=3)
    return bool(obstacle)


def require_kernels(module: str, tensor: torch.Tensor, *, what: str, instead: str) -> None:
    """Refuse, with an InputError, what kernels cannot run on: a device that is no CUDA device, unless Triton interprets them.

    Args:
        module: of the kernels.
        tensor: an input of them.
        what: the tensor's name in the plural.
        instead: the implementations to choose from.
    """
    if obstacle := kernel_obstacle(module):
        raise InputError(f"'triton' cannot be loaded ({obstacle}); choose {instead}, or 'auto'")
    if tensor.device.type != "cuda" and not interpreted():
        raise InputError(f"'triton' needs a CUDA device, and the {what} are on {tensor.device}; choose {instead}, or 'auto'")


@cache
def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, on CPU tensors: it was imported with TRITON_INTERPRET=1."""
    import triton

    return not isinstance(triton.jit(_nothing), triton.JITFunction)


def _nothing():  # type: ignore[no-untyped-def]
    pass


def kernels_agree(
    ours: Callable[[], Iterable[torch.Tensor]], theirs: Callable[[], Iterable[torch.Tensor]], *, where: str, what: str, tolerance: float
) -> bool:
    """Whether the kernels give what plain torch gives; if not, a warning says so.

    Args:
        ours, theirs: compute the same tensors, in the same order.
        where: the device, for the warning.
        what: what plain torch computes instead, for the warning.
        tolerance: largest relative error of a tensor, in the Euclidean norm.
    """
    try:
        pairs = list(zip(ours(), theirs(), strict=True))
    except Exception as error:  # whatever a compiler or driver throws, plain torch serves
        warnings.warn(f"the Triton kernels do not run on {where} ({error}); plain torch computes {what}", stacklevel=3)
        return False
    worst = max(float((a.double() - b.double()).norm() / b.double().norm()) for a, b in pairs)
    if not worst < tolerance:
        warnings.warn(f"the Triton kernels are off by {worst:.1e} on {where}; plain torch computes {what}", stacklevel=3)
    return worst < tolerance
