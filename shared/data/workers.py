"""The same work on many items, in processes or in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from shared.errors import InputError
from shared.run.stopping import leave_signals_to_parent
from shared.run.training import progress

Context = TypeVar("Context")
Item = TypeVar("Item")
Result = TypeVar("Result")
_MAX_CHUNK = 16


def parallel_map(
    work: Callable[[Context, Item], Result], context: Context, items: Sequence[Item], *, num_workers: int, title: str, unit: str
) -> Iterator[Result]:
    """`work(context, item)` of every item, in order, behind a progress bar.

    Args:
        work: a function at the top of a module, as it is sent to the processes.
        context: sent to every process once.
        num_workers: processes; 0: this one.

    Raises:
        InputError: what `work` raises, or a process that was killed.
    """
    if num_workers == 0:
        yield from progress((work(context, item) for item in items), title, total=len(items), unit=unit)
        return
    chunk = max(1, min(_MAX_CHUNK, len(items) // (4 * num_workers)))
    with ProcessPoolExecutor(num_workers, initializer=_begin, initargs=(work, context)) as pool:
        try:
            yield from progress(pool.map(_do, items, chunksize=chunk), title, total=len(items), unit=unit)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        except BrokenProcessPool as error:
            raise InputError(
                f"a process of {title} was killed, most likely for want of memory; use fewer, with --data.num_workers {num_workers // 2}"
            ) from error


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int) -> Iterator[Result]:
    """`work(item)` of every item, in order: for work that leaves Python's lock, such as decoding and encoding of pictures.

    Args:
        items: taken in the caller's thread.
        ahead: most results that wait to be asked for. When the caller stops or `items` fails, what was begun is finished.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_task: tuple[Callable[[Any, Any], Any], Any]


def _begin(work: Callable[[Any, Any], Any], context: Any) -> None:
    global _task
    _task = work, context
    leave_signals_to_parent()
    torch.set_num_threads(1)  # the processes share the cores


def _do(item: Any) -> Any:
    work, context = _task
    return work(context, item)
