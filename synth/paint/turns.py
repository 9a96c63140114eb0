"""Work for one generator: one piece at a time, in turns of the tabs; what a tab asks last takes the place of what it still waits for."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

MOST_WAITING = 32
"""Pieces of work that may wait: as many tabs as anybody has open."""


class Replaced(Exception):
    """A newer piece of work of the same tab came before this one was begun."""


class TooMany(Exception):
    """No further work can wait."""


class _Waiting(NamedTuple):
    work: Callable[[], Any]
    done: "asyncio.Future[Any]"


class Turns:
    """Runs work on one thread, which keeps torch's own threads warm; for one event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "generator")
        self._waiting: dict[str, _Waiting] = {}  # in the order of their turns
        self._server: asyncio.Task[None] | None = None

    async def run(self, tab: str, work: Callable[[], Any]) -> Any:
        """The result of `work`, when its turn has come. A tab keeps its place in the line when newer work replaces older.

        Raises:
            Replaced: newer work of the same tab came.
            TooMany: others wait already.
            Exception: whatever the work raises.
        """
        before = self._waiting.get(tab)
        if before is None and len(self._waiting) >= MOST_WAITING:
            raise TooMany(f"{MOST_WAITING} tabs wait already")
        if before is not None and not before.done.done():
            before.done.set_exception(Replaced())
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._waiting[tab] = _Waiting(work, done)
        if self._server is None:
            self._server = loop.create_task(self._serve())
        return await done

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            work, done = self._waiting.pop(next(iter(self._waiting)))
            if done.done():  # whoever asked is gone
                continue
            try:
                result = await loop.run_in_executor(self._thread, work)
            except Exception as error:
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)
        self._server = None

    def close(self) -> None:
        """Begin no further work."""
        self._waiting.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)
