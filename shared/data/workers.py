"""The same work on many items, in processes or in threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from shared.errors import InputError
from shared.run.lost_workers import watched
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
        InputError: what `work` raises, or a process was killed.
    """
    yield from progress(_results(_Work(work, context, items), num_workers), title, total=len(items), unit=unit)


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


def begin_worker(number: int) -> None:
    """To be called first by a process of a loader."""
    leave_signals_to_parent()


class _Work(Dataset[Any]):
    """Results by the index of their item. An error of the user's is handed on as a value: torch would wrap it in a worker's traceback."""

    def __init__(self, work: Callable[[Any, Any], Any], context: Any, items: Sequence[Any]) -> None:
        self.work, self.context, self.items = work, context, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.work(self.context, self.items[index])
        except InputError as error:
            return error


def _results(work: _Work, num_workers: int) -> Iterator[Any]:
    chunk = max(1, min(_MAX_CHUNK, len(work) // (4 * num_workers))) if num_workers else 1
    for results in watched(DataLoader(work, chunk, num_workers=num_workers, collate_fn=list, worker_init_fn=begin_worker)):
        for result in results:
            if isinstance(result, InputError):
                raise result
            yield result
