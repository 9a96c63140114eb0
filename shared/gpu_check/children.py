"""The programs that do the checks: started side by side, listened to, and started again where one is lost."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from shared.gpu_check.checks import CONTEXT_LOST, ERROR, MARK, NO_TIME, Row

GRACE = 15.0
"""Seconds after its time at which a program is stopped: a check that has begun may end."""
MOST_STARTS = 5
"""Of one program, each after the check that the one before was lost with."""


class Part(NamedTuple):
    """Checks of some sections in one program.

    Attributes:
        shares: processes that divide them on a GPU.
    """

    sections: tuple[str, ...]
    program: str
    shares: int


def environment_of(sections: Sequence[str], rehearsal: bool, processes: int) -> dict[str, str]:
    """What a child sees: our modules, its share of the threads, and float32 that is float32 where values are compared."""
    threads = 1 if rehearsal else max(1, (os.cpu_count() or 1) // processes)
    changes = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": str(threads)}
    if rehearsal:
        changes |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    if {"equality", "training"} & {*sections}:
        # the second makes products repeatable, see torch.use_deterministic_algorithms
        changes |= {"NVIDIA_TF32_OVERRIDE": "0", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    return dict(os.environ) | changes


class Children:
    """Processes of one stage."""

    def __init__(self, rehearsal: bool, deadline: float, add: Callable[[Row], None]) -> None:
        """deadline: of `time.monotonic`. add: takes each row, from several threads, one at a time."""
        self.rehearsal, self.deadline, self.add = rehearsal, deadline, add
        self.lock = threading.Lock()
        self.running: set[subprocess.Popen[str]] = set()
        self.stopped = False

    def run(self, parts: Sequence[Part]) -> None:
        """All checks of the parts, side by side; in a rehearsal one after the other."""
        shares = [(part, (number, count)) for part in parts for count in [1 if self.rehearsal else part.shares] for number in range(count)]
        workers = 1 if self.rehearsal else len(shares)
        pool = ThreadPoolExecutor(workers)
        try:
            for done in [pool.submit(self._share, part, share, workers) for part, share in shares]:
                done.result()
        finally:
            self.stopped = True
            for process in list(self.running):
                process.kill()
            pool.shutdown(cancel_futures=True)

    def _share(self, part: Part, share: tuple[int, int], processes: int) -> None:
        skip = 0
        for _ in range(MOST_STARTS):
            ended = self._once(part, share, skip, processes)
            if ended is None or self.stopped:
                return
            skip += ended
        self._add(Row(part.sections[-1], part.program, "the rest", ERROR, note=f"given up after {MOST_STARTS} lost processes"))

    def _once(self, part: Part, share: tuple[int, int], skip: int, processes: int) -> int | None:
        """One process. None: it has done everything; else how many checks are done or have taken it along."""
        left = self.deadline - time.monotonic()
        command = [
            sys.executable,
            "-m",
            part.program,
            "--sections",
            f"[{', '.join(part.sections)}]",
            "--seconds",
            f"{max(left, 0.001):.3f}",
        ]
        command += ["--share", f"[{share[0]}, {share[1]}]", "--skip", str(skip), *(["--rehearsal"] if self.rehearsal else [])]
        done, begun, section = 0, "", part.sections[0]
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            environment = environment_of(part.sections, self.rehearsal, processes)
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace", env=environment
            )
            self.running.add(process)
            killed = threading.Timer(max(left, 0.0) + GRACE, process.kill)
            killed.start()
            assert process.stdout is not None
            for line in process.stdout:
                if not line.startswith(MARK):
                    continue
                told: dict[str, Any] = json.loads(line.removeprefix(MARK))
                begun, section = told.get("begin", ""), told["section"]
                if not begun:
                    # JSON has no infinity: an error without a number is one
                    figures = {name: float("nan") if value is None else value for name, value in told["figures"].items()}
                    self._add(Row(**told | {"figures": figures}))
                    done += 1
            status = process.wait()
            killed.cancel()
            self.running.discard(process)
            if status == 0 or self.stopped:
                return None
            if status == CONTEXT_LOST:
                return done
            errors.seek(0)
            told_last = errors.read()[-4000:]
        where = begun or "start"
        if time.monotonic() > self.deadline + GRACE - 1:
            self._add(Row(section, part.program, where, NO_TIME, note="stopped in it; those after it have not begun"))
            return None
        last = (told_last.strip().splitlines() or ["no message"])[-1]
        self._add(Row(section, part.program, where, ERROR, note=f"the process ended with status {status}: {last}", trace=told_last))
        return done + 1 if begun else done or None  # between two checks, where it has done any

    def _add(self, row: Row) -> None:
        with self.lock:
            self.add(row)
