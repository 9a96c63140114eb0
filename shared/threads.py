"""Work shared among the threads that torch may use, where a piece is too small for several threads to work on together."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Share = TypeVar("Share")
Result = TypeVar("Result")


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
