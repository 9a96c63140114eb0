"""Processes that read data, and what follows when one is killed: the run ends in one line where it next waits for a batch.

torch's own way is to raise in whatever the main process does at the moment of the death: while it writes a checkpoint, within a library
that makes another error of it, in a block that goes on after errors. Here a death is heard of only where a batch is waited for, so that
everything else is finished first. Whatever error comes while a process is dead is taken for a consequence (`shared.run.program`).
"""

import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader

from shared.errors import InputError
from shared.run.stopping import starting_processes

LOST_WORKER = (
    "a process that reads data was killed, most likely because memory ran out; the same command, for a training with its --run_dir, goes "
    "on from what is saved. Fewer such processes: --data.num_workers."
)
SMALL_SHARED_MEMORY = " Or its shared memory (/dev/shm) is too small"
PATIENCE = 1.0
"""Seconds from the first sign of a death to the death itself: a process closes its connections before it can be seen to be dead."""

_END: Any = object()
_watched: list[Sequence[BaseProcess]] = []
"""Of every iteration of this program that has not come to its end, those that were broken off included."""
_waited_for: Sequence[BaseProcess] = ()
_kept: list[Iterator[Any]] = []
"""What lost a process stays: to end the others, torch would wait for locks that the dead one may hold."""


def watched(loader: DataLoader[Any]) -> Iterator[Any]:
    """What `loader` gives.

    Raises:
        InputError: one of its processes was killed; the others are killed too.
    """
    with starting_processes():
        items = iter(loader)
    processes: Sequence[BaseProcess] = items._workers if loader.num_workers else ()  # type: ignore[attr-defined]
    _watched.append(processes)
    if processes and threading.current_thread() is threading.main_thread():  # no other may, and torch has not done it in another
        signal.signal(signal.SIGCHLD, _hear)
    try:
        while True:
            with _waiting_for(processes):
                item = next(items, _END)
            if item is _END:
                break
            yield item
        _watched.remove(processes)
    finally:
        if _death_among(processes) is not None:
            _kept.append(items)
            for process in processes:
                process.kill()


def lost_worker(patience: float = 0.0) -> str | None:
    """What is to be said if a process has died that reads data for this program; else None.

    Args:
        patience: seconds to wait for a death that has shown itself only in what it breaks.
    """
    return _death_among([process for processes in list(_watched) for process in processes], patience)


@contextmanager
def lost_workers_told_once() -> Iterator[None]:
    """A program, which tells of a dead process itself: its other threads, and finalizers, keep quiet about what they run into then."""
    _watched.clear()
    thread_hook, finalizer_hook = threading.excepthook, sys.unraisablehook
    threading.excepthook = lambda failure: None if lost_worker(PATIENCE) else thread_hook(failure)
    sys.unraisablehook = lambda failure: None if lost_worker() else finalizer_hook(failure)
    try:
        yield
    finally:
        if lost_worker() is None:  # else they are quiet to the end
            threading.excepthook, sys.unraisablehook = thread_hook, finalizer_hook


@contextmanager
def _waiting_for(processes: Sequence[BaseProcess]) -> Iterator[None]:
    """Raise InputError if one of `processes` is dead, or dies while the block waits. A second death does not disturb the first."""
    global _waited_for
    hears = threading.current_thread() is threading.main_thread()  # in another, torch itself looks every few seconds
    try:
        if hears:
            _waited_for = processes
        if (death := _death_among(processes)) is not None:
            raise InputError(death)
        yield
    except InputError:
        raise
    except Exception as error:  # a connection that broke, half a message, or whatever else a library made of that
        if (death := _death_among(processes, PATIENCE)) is None:
            raise
        raise InputError(death) from error
    finally:
        if hears:
            _waited_for = ()


def _hear(number: int, frame: FrameType | None) -> None:
    """Handles SIGCHLD: ends the wait for a process that has died, once."""
    global _waited_for
    death = _death_among(_waited_for)
    if death is not None:
        _waited_for = ()
        raise InputError(death)


def _death_among(processes: Iterable[BaseProcess], patience: float = 0.0) -> str | None:
    """What is said of a process that has died rather than come to its end; waits as long for one as `patience` says."""
    deadline = time.monotonic() + patience
    while not any(statuses := [process.exitcode for process in processes]):
        if None not in statuses or time.monotonic() >= deadline:
            return None
        time.sleep(0.01)
    return LOST_WORKER + (SMALL_SHARED_MEMORY if -signal.SIGBUS in statuses else "")
