"""One contestant of the benchmark in a process of its own; started by seg.benchmark, not by hand."""

from dataclasses import asdict
from typing import Any

import torch

from seg.benchmark.cases import Case
from seg.benchmark.groups import footprint_here, set_threads
from shared.benchmark.isolation import answer_parent, limit_memory


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Footprint of the contestant and the case that the task names, as plain values."""
    case = Case(**task["case"])
    set_threads(case.threads)
    limit_memory(task["memory"], torch.device(case.device))
    return asdict(footprint_here(case, task["contestant"]))


if __name__ == "__main__":
    answer_parent(measure)
