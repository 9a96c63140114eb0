"""Contestants that do the same work, measured side by side: memory each in a process of its own, then time in turns in this one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from shared.benchmark.ceilings import Ceilings, Work
from shared.benchmark.isolation import MIB, Failed, peak_above, reason
from shared.benchmark.timing import Timing, time_interleaved, time_once


@dataclass(frozen=True)
class Contestant:
    """One way of doing the work of a case.

    Attributes:
        name: how the tables call it.
        prepare: makes the inputs and gives the call that is measured.
        work: what this and every equivalent way cannot do without; None where there is no such figure.
        errors: relative errors by name, against a float64 reference on a part of the inputs.
        obstacle: why it cannot run here; empty where it can.
        predict_peak: gives bytes above the inputs without running anything. Beyond the limit, nothing is run.
    """

    name: str
    prepare: Callable[[], Callable[[], Any]]
    work: Work | None = None
    errors: Callable[[], dict[str, float]] | None = None
    obstacle: str = ""
    predict_peak: Callable[[], int] | None = None


@dataclass(frozen=True)
class Limits:
    """What a measurement may take: samples of a call, seconds for the samples of one, bytes, and seconds of a child process."""

    repeats: int
    seconds: float
    memory: int
    timeout: float


@dataclass(frozen=True)
class Result:
    """A line of the table.

    Attributes:
        group: what was done.
        setting: the case, such as {"classes": 19, "pixels": 200000}.
        contestant: how it was done.
        timing: None where it could not be run.
        peak: bytes above the inputs; None where it could not be measured.
        full_peak: the same with as many pixels as were asked for, where the case has fewer for the sake of time.
        predicted_peak: bytes, from a formula.
        floor: seconds that every way of doing this needs at least on this machine.
        floor_kind: what that is for: "bytes", "matrix" or "exponential".
        errors: relative errors by name.
        note: why a figure is missing, one line.
    """

    group: str
    setting: dict[str, Any]
    contestant: str
    timing: Timing | None = None
    peak: int | None = None
    full_peak: int | None = None
    predicted_peak: int | None = None
    floor: float | None = None
    floor_kind: str = ""
    errors: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def share_of_floor(self) -> float | None:
        """Floor over measured time, in (0, 1]."""
        return self.floor / self.timing.seconds if self.floor is not None and self.timing is not None else None


@dataclass(frozen=True)
class Footprint:
    """What a child process found in one call: peak bytes above the inputs (None where unknown) and seconds."""

    peak: int | None
    seconds: float


def measure_footprint(contestant: Contestant, small: Contestant, device: torch.device) -> Footprint:
    """One call, in a process that does nothing else.

    Args:
        contestant: what is measured.
        small: the same on a small case; it warms up.
    """
    small.prepare()()
    call = contestant.prepare()
    samples = []
    peak = peak_above(lambda: samples.append(time_once(call, device)), device)
    return Footprint(peak, samples[0][0])


def run_contest(
    group: str,
    setting: dict[str, Any],
    contestants: Sequence[Contestant],
    small: Mapping[str, Contestant],
    *,
    footprint: Callable[[str], Footprint],
    full_footprint: Callable[[str], Footprint] | None,
    growth: float,
    ceilings: Ceilings,
    limits: Limits,
    device: torch.device,
) -> list[Result]:
    """Measure the contestants of one case; one that fails becomes a line with the reason.

    Args:
        group, setting: of the results.
        contestants: who takes part; their names differ.
        small: the same on a small case, by name; they warm up.
        footprint: measures a contestant, by name, in a child process; raises `Failed`.
        full_footprint: the same at the size that was asked for, where the case is smaller.
        growth: that size over this one. The full size is left out where it would take more than the memory, or five times the seconds.
        ceilings: rates of the machine.
    """
    results: dict[str, Result] = {}
    calls = {}
    for contestant in contestants:
        predicted = contestant.predict_peak() if contestant.predict_peak else None
        floor, kind = contestant.work.floor(ceilings) if contestant.work else (None, "")
        result = Result(group, setting, contestant.name, predicted_peak=predicted, floor=floor, floor_kind=kind)
        try:
            _require_possible(contestant, predicted, limits)
            # memory first: a child that fails keeps its contestant from being timed here, where it could take the process along
            found = footprint(contestant.name)
            result = replace(result, peak=found.peak, full_peak=found.peak)
            if full_footprint is not None:
                result = _with_full_size(result, found, full_footprint, growth, limits)
            # loads and compiles in this process, before a clock runs
            small[contestant.name].prepare()()
            calls[contestant.name] = contestant.prepare()
        except Exception as error:
            result = replace(result, note=reason(error))
        results[contestant.name] = result
    timings = time_interleaved(calls, repeats=limits.repeats, seconds=limits.seconds, device=device)
    return [_with_timing(results[contestant.name], contestant, timings.get(contestant.name)) for contestant in contestants]


def _with_full_size(result: Result, found: Footprint, full_footprint: Callable[[str], Footprint], growth: float, limits: Limits) -> Result:
    """The result with the peak at the size that was asked for, or with why it was left out."""
    if found.seconds * growth > 5 * limits.seconds or (found.peak or 0) * growth > limits.memory:
        return replace(result, full_peak=None)
    try:
        return replace(result, full_peak=full_footprint(result.contestant).peak)
    except Failed as error:
        return replace(result, full_peak=None, note=f"all pixels: {error}")


def _with_timing(result: Result, contestant: Contestant, timing: Timing | Exception | None) -> Result:
    if isinstance(timing, Exception):
        return replace(result, note=reason(timing))
    result = replace(result, timing=timing)
    if timing is None or contestant.errors is None:
        return result
    try:
        return replace(result, errors=contestant.errors())
    except Exception as error:
        return replace(result, note=f"errors not measured: {reason(error)}")


def _require_possible(contestant: Contestant, predicted: int | None, limits: Limits) -> None:
    if contestant.obstacle:
        raise Failed(contestant.obstacle)
    if predicted is not None and predicted > limits.memory:
        raise Failed(f"would need {predicted / MIB:,.0f} MiB")
