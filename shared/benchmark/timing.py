"""How long calls take, and how much else the machine was doing meanwhile."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

_STAT = Path("/proc/stat")  # Linux: time that all processes together had, in ticks


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one call.

    Attributes:
        seconds: median wall-clock time.
        spread: interquartile range over the median; 0 for a single sample.
        cpu_seconds: median processor time of this process, all threads together. It cannot exceed `seconds` × threads; where it is far
            below, the process was waiting for others.
        samples: how many measurements.
    """

    seconds: float
    spread: float
    cpu_seconds: float
    samples: int


def time_interleaved(
    calls: Mapping[str, Callable[[], Any]], *, repeats: int, seconds: float, device: torch.device
) -> dict[str, Timing | Exception]:
    """Time calls in turns, so that a disturbance of the machine meets all of them.

    Every call is made once to warm up, and then `repeats` times; less often where that takes more than `seconds`. A call that alone
    takes longer is not repeated: its first sample counts.

    Args:
        calls: what is timed, by name.
        repeats: samples of a fast call, ≥ 1.
        seconds: time for the samples of one call.
        device: waited for before the clock is read.

    Returns:
        by name, the timing, or the error that the call ended with.
    """
    taken: dict[str, list[tuple[float, float]]] = {}
    failed: dict[str, Exception] = {}

    def sample(name: str) -> None:
        try:
            taken.setdefault(name, []).append(time_once(calls[name], device))
        except Exception as error:
            failed[name] = error

    for name in calls:
        sample(name)
    wanted = {name: min(repeats, int(seconds / taken[name][0][0])) for name in calls if name not in failed}
    for turn in range(repeats):
        for name, times in wanted.items():
            if turn < times and name not in failed:
                sample(name)
    # the first sample was to warm up, and counts only where there is no other
    return {name: failed[name] if name in failed else _summarise(taken[name][1:] or taken[name]) for name in calls}


def time_once(call: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Wall-clock and processor seconds of a call, without the time to free what it returns."""
    _wait_for(device)
    cpu_started, started = time.process_time(), time.perf_counter()
    result = call()
    _wait_for(device)
    elapsed = time.perf_counter() - started, time.process_time() - cpu_started
    del result
    return elapsed


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _summarise(samples: list[tuple[float, float]]) -> Timing:
    wall = [seconds for seconds, _ in samples]
    median = statistics.median(wall)
    lower, _, upper = statistics.quantiles(wall, n=4, method="inclusive") if len(wall) > 1 else (median,) * 3
    return Timing(median, (upper - lower) / median, statistics.median(cpu for _, cpu in samples), len(samples))


@dataclass
class Disturbance:
    """Share of the machine's processor time that other processes used, in [0, 1]; None where that is not known."""

    share: float | None = field(default=None)


@contextmanager
def disturbance() -> Iterator[Disturbance]:
    """Watch the other processes while the block runs; its children count as this process once they have ended."""
    found, before, own_before = Disturbance(), _ticks(), _own_ticks()
    yield found
    after, own_after = _ticks(), _own_ticks()
    if before and after and after[1] > before[1]:
        others = (after[0] - before[0]) - (own_after - own_before)
        found.share = min(max(others / (after[1] - before[1]), 0.0), 1.0)


def _ticks() -> tuple[int, int] | None:
    """Busy and all ticks of all processors since the start of the machine."""
    if not _STAT.is_file():
        return None
    # up to `steal`: the later columns are of guests, whose time is in user and nice already
    user, nice, system, idle, waiting, *rest = map(int, _STAT.read_text(encoding="ascii").splitlines()[0].split()[1:9])
    busy = user + nice + system + sum(rest)
    return busy, busy + idle + waiting


def _own_ticks() -> float:
    used = os.times()
    return (used.user + used.system + used.children_user + used.children_system) * os.sysconf("SC_CLK_TCK")
