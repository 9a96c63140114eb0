"""Programs of this project run as commands, some at once, and remembered, so that a comparison that was stopped goes on."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from shared.errors import InputError
from shared.files.json_file import write_json
from shared.run.stopping import STOPPED, Stopped
from shared.run.training import progress_by_hand

POLL_SECONDS = 0.5


class CommandLog:
    """Runs `python -m …` and keeps the commands that succeeded, with their seconds, in a JSON file.

    Args:
        path: the file; commands that it lists are not run again.
        jobs: commands that may run at once; the cores are divided between them.
    """

    def __init__(self, path: Path, jobs: int) -> None:
        self.path, self.jobs = path, jobs
        self._children: list[subprocess.Popen[bytes]] = []
        self._stopping, self._lock = False, Lock()
        self.seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def run_all(self, commands: Sequence[Sequence[str]], title: str, *, total: int, done: Callable[[], int] | None = None) -> None:
        """Run every command, `jobs` at a time, under one progress bar; alone, a command keeps the terminal and its own bars.

        Args:
            commands: arguments after `python -m`.
            total: work of all commands, in the unit of `done`.
            done: how much of the work is done; None counts finished commands.

        Raises:
            InputError: a command failed; says where its output is.
            Stopped: a command was asked to stop.
        """
        lines = [shlex.join(["python", "-m", *command]) for command in commands]
        todo = [(line, command) for line, command in zip(lines, commands) if line not in self.seconds]
        if not todo:
            return
        if self.jobs == 1:
            for line, command in todo:
                print(f"$ {line}", flush=True)
                with self._threads() as pool:
                    outcome = pool.submit(self._run, command, None).result()
                self._finish(line, outcome, None)
            return
        print("\n".join(f"$ {line}" for line, _ in todo), flush=True)
        logs = [self.path.parent / f"{title.split()[0]}-{lines.index(line)}.log" for line, _ in todo]
        with self._threads() as pool:
            running = [pool.submit(self._run, command, log) for (_, command), log in zip(todo, logs)]
            bar = progress_by_hand(title, total=total, unit="step" if done else "command")
            while wait(running, POLL_SECONDS).not_done:
                bar.update((done() if done else sum(job.done() for job in running)) - bar.n)
            bar.close()
        for (line, _), log, job in zip(todo, logs, running):
            self._finish(line, job.result(), log)

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that each start a command and wait for it. When this process is asked to stop, so are the commands, and none starts
        after that. The request comes to the main thread, so never between the start of a command and its entry in the list."""
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                yield pool
            except KeyboardInterrupt:
                with self._lock:
                    self._stopping = True
                    for child in self._children:
                        child.terminate()
                raise  # once they have ended

    def _run(self, command: Sequence[str], log: Path | None) -> tuple[int, float]:
        """Exit status and seconds of one command; its output goes to `log`, or where ours goes."""
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if self.jobs > 1 else {})
        started = time.perf_counter()
        with open(log or os.devnull, "w", encoding="utf-8") as output:
            streams = {} if log is None else {"stdout": output, "stderr": subprocess.STDOUT}
            with self._lock:
                if self._stopping:
                    return STOPPED, 0.0
                # in a session of its own, so that Ctrl-C at the terminal reaches it once, through us
                child = subprocess.Popen([sys.executable, "-m", *command], env=environment, start_new_session=True, **streams)  # type: ignore[call-overload]
                self._children.append(child)
            status = child.wait()
        return status, round(time.perf_counter() - started, 1)

    def _finish(self, line: str, outcome: tuple[int, float], log: Path | None) -> None:
        status, seconds = outcome
        if status == STOPPED:
            raise Stopped(f"`{line}` was asked to stop and can be continued; the same command goes on from there")
        if status:
            said = [] if log is None else log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise InputError(f"`{line}` ended with status {status}" + (f": {said[-1]} (all of it in {log})" if said else ""))
        self.seconds[line] = seconds
        write_json(self.path, self.seconds)
