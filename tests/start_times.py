"""CPU seconds of every program's --help and of a few refusals, beside `import torch`: `python -m tests.start_times`."""

import os
import statistics
import subprocess
import sys

from tests.test_import_direction import PROGRAMS, ROOT
from tests.test_start import REFUSALS, STARTED_BY_OTHERS

REPEATS = 5


def cpu_seconds(*command: str) -> float:
    """User and system time of a process, the median of `REPEATS`."""
    taken = []
    for _ in range(REPEATS):
        before = os.times()
        subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = os.times()
        taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(taken)


def main() -> None:
    torch = cpu_seconds("-c", "import torch")
    print(f"{torch:5.2f} s       import torch")
    calls = [[program.removesuffix(".__main__"), "--help"] for program in sorted(PROGRAMS) if not program.startswith(STARTED_BY_OTHERS)]
    for arguments in [*calls, *REFUSALS.values()]:
        seconds = cpu_seconds("-m", *arguments)
        print(f"{seconds:5.2f} s  {seconds / torch:4.2f}  {' '.join(arguments)}")


if __name__ == "__main__":
    main()
