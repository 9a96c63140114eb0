"""Failures of the machine rather than of the input, in one line: memory, drivers, processes that are killed."""

import re
from pathlib import Path

import torch

from shared.errors import is_out_of_memory
from shared.run.lost_workers import LOST_WORKER, SMALL_SHARED_MEMORY

_LOST_WORKER = re.compile(r"DataLoader worker .*(exited unexpectedly|is killed by signal)")
_NO_KERNELS = re.compile(r"no kernel image is available|driver .* (too old|insufficient)|NVIDIA driver")


def one_line(error: BaseException) -> str:
    """The first sentence or line of an error of a library, without the place in its source."""
    text = re.sub(r"^\[enforce fail at [^\]]*\][^.]*\. |^.*Error: ", "", str(error).strip().split("\n")[0])
    return text.split(". ")[0].rstrip(". ") or type(error).__name__


def explain_fault(error: BaseException) -> str | None:
    """What has failed and what to do, where the cause is the machine; else None."""
    if is_out_of_memory(error):
        return f"memory has ended: {one_line(error)}. Smaller batches, crops or pictures need less; or stop other programs"
    text = str(error)
    if _LOST_WORKER.search(text):
        return LOST_WORKER + (SMALL_SHARED_MEMORY if "bus error" in text.lower() else "")
    if _NO_KERNELS.search(text):
        return f"the GPU cannot be used: {one_line(error)}. Use --train.device cpu, or a driver and a torch that fit each other"
    return None


def cuda_obstacle(gpu: int) -> str:
    """Why this GPU cannot be used; empty where it can, found out by computing something on it. It is the current one from then on.

    No other GPU is touched: a process that looks at one has a context there, which takes some of its memory.
    """
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    try:
        torch.cuda.set_device(gpu)
        torch.ones(1, device=torch.device("cuda", gpu)).add_(1).item()
    except (RuntimeError, AssertionError) as error:
        return one_line(error)
    return ""


def gpu_is_plugged_in() -> bool:
    """Whether the system shows an NVIDIA GPU, usable or not."""
    return Path("/dev/nvidia0").exists()
