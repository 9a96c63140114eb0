"""How work is computed faster than plain torch does it: on threads, compiled by numba, compiled by Triton.

What is compiled is loaded late, and only where it is there: this module itself needs torch alone.
"""

import hashlib
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from shared.errors import InputError

Function = TypeVar("Function", bound=Callable[..., Any])


Share = TypeVar("Share")
Result = TypeVar("Result")


def outside_graphs(function: Function) -> Function:
    """`torch.compiler.disable`, but the compiler is imported only where something is compiled: that takes longer than importing torch."""

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*arguments, **options)
        return function(*arguments, **options)

    return cast(Function, call)


def compiled(function: Callable[..., Any], returns: Any, *arguments: Any) -> Callable[..., Any]:
    """Machine code of a kernel for these numba types, from disk or made now (seconds). It lets other threads run.

    numba takes code from disk as long as the kernel's own file is unchanged; the name makes that all files of kernels beside it.
    Where nothing can be written, the code lasts as long as the process.
    """
    from numba import njit

    function.__qualname__ = f"{function.__name__}_{_digest_of_kernels(Path(function.__code__.co_filename).parent)}"
    signature = returns(*arguments)
    try:
        return njit([signature], nogil=True, cache=True)(function)
    # what numba raises where it finds no folder to write to
    except (RuntimeError, OSError):
        return njit([signature], nogil=True)(function)


@cache
def _digest_of_kernels(folder: Path) -> str:
    sources = sorted(folder.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def run_in_threads(work: Callable[[Share], Result], shares: Sequence[Share]) -> list[Result]:
    """Results of `work` on every share, in their order; each share runs on a thread in which torch uses no further ones.

    Args:
        shares: at most `torch.get_num_threads()`, which alone should decide about them, so that sums over them are repeatable.
    """
    if len(shares) == 1:
        return [work(shares[0])]
    inference = torch.is_inference_mode_enabled()

    def work_without_gradients(share: Share) -> Result:
        with torch.inference_mode(inference), torch.no_grad():  # a thread starts without its caller's modes, and without autocast
            return work(share)

    return list(_pool(torch.get_num_threads(), os.getpid()).map(work_without_gradients, shares))


@cache
def _pool(num_threads: int, process: int) -> ThreadPoolExecutor:
    """Threads in which torch works with one thread. A forked process has none of its parent's threads, and makes its own."""
    pool = ThreadPoolExecutor(num_threads, "chunks", _use_one_thread)
    all_started = threading.Barrier(num_threads)
    list(pool.map(lambda _: all_started.wait(), range(num_threads)))
    # A thread's number is its own, but the last one set anywhere is also what later threads begin with.
    torch.set_num_threads(num_threads)
    return pool


def _use_one_thread() -> None:
    torch.get_num_threads()  # takes over the process's number, which would otherwise happen later and undo the next line
    torch.set_num_threads(1)


def places_of(mask: torch.Tensor, count: int) -> torch.Tensor:
    """(count,) int64: where the mask (P,) is set, which is so often. `nonzero` would let a GPU wait for their number."""
    if mask.device.type == "cpu":
        return torch.nonzero_static(mask, size=count).squeeze(1)
    return torch.searchsorted(mask.cumsum(0), torch.arange(1, count + 1, device=mask.device))


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
    """Refuse, with an InputError, what kernels cannot run on: a device other than CUDA, unless Triton interprets them.

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
    # not `>=`, which nan would pass
    if not worst < tolerance:
        warnings.warn(f"the Triton kernels are off by {worst:.1e} on {where}; plain torch computes {what}", stacklevel=3)
    return worst < tolerance
