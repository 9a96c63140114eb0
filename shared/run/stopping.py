"""Leaving when asked to: SIGTERM and Ctrl-C end every program with status 3, and a training saves first.

While a `StopRequest` watches a loop, the first signal lets the step end; a second one, from `REPEATS` seconds on, ends the program where
it is. Schedulers and launchers often send a signal twice, to a process and to its group, and such a pair counts once. Elsewhere a
signal ends the program at once. Files are written whole or not at all, whenever it comes.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from shared.distributed import any_process

Item = TypeVar("Item")
STOPPED = 3
"""Exit status of a program that was asked to stop and can be continued."""
REPEATS = 2.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ORPHAN_SECONDS = 5.0
_interrupted = False


class Stopped(Exception):
    """A program has left early because it was asked to; the message says how to go on."""


class StopRequest:
    """Whether this process has been asked to stop while it is in the loop that `watch` goes through.

    Attributes:
        accepted: the last answer of `due`.
    """

    def __init__(self) -> None:
        self._asked_at: float | None = None
        self.accepted = False

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """`items` until `due` has said yes; signals are requests meanwhile."""
        with _handling(self._note):
            for item in items:
                yield item
                if self.accepted:
                    return

    def due(self) -> bool:
        """Whether to save and leave, for all processes if one was asked; to be asked once at the end of every step."""
        self.accepted = any_process(self._asked_at is not None)
        return self.accepted

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
        elif now - self._asked_at > REPEATS:
            _interrupt(number, frame)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does; and so it leaves the block, whatever error a library has made of it."""
    global _interrupted
    _interrupted = False
    with _handling(_interrupt):
        try:
            yield
        except Exception as error:
            if _interrupted and not isinstance(error, Stopped):
                raise KeyboardInterrupt from error
            raise


@contextmanager
def starting_processes() -> Iterator[None]:
    """Worker processes that start in the block meet signals only in `leave_signals_to_parent`, never with the handlers of this process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent() -> None:
    """For worker processes: Ctrl-C and a scheduler's SIGTERM reach the whole group, and the parent decides what follows from them.

    SIGTERM ends this process where the parent sends it. It also ends when the parent is gone.
    """
    starter = multiprocessing.parent_process()
    assert starter is not None, "this is no worker process"
    parent = starter.pid  # rather than getppid, which is another's where the parent is gone already

    def heed_parent() -> None:
        while os.getppid() == parent:
            told = signal.sigtimedwait({signal.SIGTERM}, _ORPHAN_SECONDS)
            if told is not None and told.si_pid == parent:
                break
        os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # later threads inherit it, so that only the wait below takes it
    threading.Thread(target=heed_parent, daemon=True).start()


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Set the handler of both signals, but where a signal is ignored (nohup, background jobs), and restore them afterwards."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers, and gets the signals
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    chosen = [number for number, old in before.items() if old is not signal.SIG_IGN]
    for number in chosen:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in chosen:
            signal.signal(number, before[number])


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    raise KeyboardInterrupt
