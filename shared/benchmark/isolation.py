"""A measurement in a process of its own: what it does to its memory, or to itself, stays there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from shared.benchmark.memory import is_out_of_memory

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
