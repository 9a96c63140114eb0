"""A measurement in a process of its own: its peak memory, a limit to what it may take, and why it failed."""

import ctypes
import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from shared.errors import is_out_of_memory

RETURN_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
"""Makes glibc give every freed tensor above 128 KiB back to the kernel. Left alone it keeps more and more of them, and a peak would be
that of its habits instead of the tensors'."""


class Failed(Exception):
    """A contestant could not be measured; the message is the reason, one line."""


def run_in_child(module: str, task: dict[str, Any], *, timeout: float) -> dict[str, Any]:
    """Run `python -m module` on `task` and return its answer; the module's main calls `answer_parent`.

    Args:
        module: dotted name of a program.
        task: plain values.
        timeout: seconds after which the child is stopped.

    Raises:
        Failed: the child told why it could not do the task, or it was killed, or took too long.
    """
    # the child imports what the parent would, wherever it was started
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **RETURN_FREED_MEMORY}
    try:
        done = subprocess.run(
            [sys.executable, "-m", module], input=json.dumps(task), env=environment, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"stopped after {timeout:.0f} s") from None
    if done.returncode < 0:
        raise Failed(f"killed by signal {-done.returncode}" + (" (out of memory?)" if done.returncode == -9 else ""))
    if done.returncode > 0:
        raise Failed(f"ended with status {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    # the last line, as libraries may print before it
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "failed" in answer:
        raise Failed(answer["failed"])
    return answer


def answer_parent(perform: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """The child's side: read the task, perform it, print the answer as the last line."""
    task = json.load(sys.stdin)
    try:
        answer = perform(task)
    except Exception as error:
        answer = {"failed": reason(error)}
    print(json.dumps(answer), flush=True)


def reason(error: BaseException) -> str:
    """One line that says why a contestant could not run."""
    if isinstance(error, Failed):
        return str(error)
    if is_out_of_memory(error):
        return "out of memory"
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


_PROCESS = Path("/proc/self")
MIB, GIB = 2**20, 2**30


def peak_above(call: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes that this process, or the GPU, held at most during `call` beyond what it held before.

    On the CPU this is the kernel's high-water mark of resident memory, put back before the call. Make the call once on small inputs
    first, so that libraries, threads and compiled code are not counted; and make it in a process of its own, because freed memory that
    an allocator keeps would hide a part of it.

    Returns:
        None on the CPU of a system without Linux's /proc.
    """
    gc.collect()
    if device.type == "cuda":
        return _cuda_peak(call, device)
    if not (_PROCESS / "clear_refs").exists():
        return None
    _return_free_memory()
    (_PROCESS / "clear_refs").write_text("5", encoding="ascii")  # 5: high-water mark := resident size
    before = _resident("VmRSS")
    result = call()
    peak = _resident("VmHWM")
    del result
    return max(peak - before, 0)


def _cuda_peak(call: Callable[[], Any], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = call()
    torch.cuda.synchronize(device)
    del result
    return torch.cuda.max_memory_allocated(device) - before


def _return_free_memory() -> None:
    """Give what the C library's allocator keeps for later back to the kernel (glibc; others have no such function)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident(name: str) -> int:
    """Bytes of an entry such as VmRSS in /proc/self/status."""
    found = re.search(rf"^{name}:\s+(\d+) kB", (_PROCESS / "status").read_text(encoding="ascii"), re.MULTILINE)
    assert found, f"/proc/self/status has no {name}"
    return int(found[1]) * 1024


def limit_memory(limit: int, device: torch.device) -> None:
    """Let allocations fail that would take this process more than `limit` bytes beyond what it holds now, instead of the whole machine."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        # the number, as torch takes no "cuda" without one here
        torch.cuda.set_per_process_memory_fraction(min(limit / total, 1.0), device.index)
    elif (_PROCESS / "status").exists():
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        # not RLIMIT_AS, which would count mapped libraries and reserved addresses too
        resource.setrlimit(resource.RLIMIT_DATA, (_resident("VmData") + limit, hard))


def available_memory(device: torch.device) -> int | None:
    """Bytes that can be allocated now; None where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None
