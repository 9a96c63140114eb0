"""How long the contestants of a benchmark take on a card, one after the other in this process, which nothing else disturbs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from shared.benchmark.ceilings import Ceilings, measure_ceilings
from shared.benchmark.contest import Contestant
from shared.benchmark.isolation import GIB, MIB, available_memory, peak_above
from shared.benchmark.timing import time_interleaved
from shared.gpu_check.checks import Absent, Found


@dataclass(frozen=True)
class Measured:
    """Seconds of a contestant, and its share of the floor where there is one."""

    seconds: float
    share: float | None


@dataclass
class Stopwatch:
    """Measures on one device.

    Attributes:
        repeats: samples of a fast call, after one to warm up.
        seconds: for the samples of one contestant.
        results: what was measured, by group, number of classes and contestant.
    """

    device: torch.device
    repeats: int
    seconds: float

    def __post_init__(self) -> None:
        self.results: dict[tuple[str, int], dict[str, Measured]] = {}

    @cached_property
    def ceilings(self) -> Ceilings:
        """Of the device."""
        return measure_ceilings(self.device)

    def measure(self, contestant: Contestant, group: str, classes: int) -> Found:
        """Time, share of the floor, peak memory above the inputs, and errors.

        Raises:
            Absent: it cannot run here, or would need more memory than there is.
        """
        if contestant.obstacle:
            raise Absent(contestant.obstacle)
        predicted, free = contestant.predict_peak() if contestant.predict_peak else 0, available_memory(self.device)
        if free is not None and predicted > 0.9 * free:
            raise Absent(f"would need {predicted / GIB:.0f} GiB")
        call = contestant.prepare()
        call()  # compiles
        peak = peak_above(call, self.device)
        (timing,) = time_interleaved({"": call}, repeats=self.repeats, seconds=self.seconds, device=self.device).values()
        if isinstance(timing, Exception):
            raise timing
        figures: dict[str, float | str] = {"ms": 1e3 * timing.seconds, "±": timing.spread}
        if peak:
            figures["peak MiB"] = peak / MIB
        share = None
        if contestant.work is not None:
            floor, kind = contestant.work.floor(self.ceilings)
            share = floor / timing.seconds
            figures |= {"floor ms": 1e3 * floor, "of floor": share, "floor is": kind}
        self.results.setdefault((group, classes), {})[contestant.name] = Measured(timing.seconds, share)
        if contestant.errors is not None:
            figures |= {f"{name} error": error for name, error in contestant.errors().items()}
        return Found(figures, setting={"plot": group.replace(" ", "_"), "curve": contestant.name, "x": classes})

    def fastest(self, group: str, classes: int, beginning: str) -> Measured | None:
        """Of the contestants whose names begin so; None where none was measured."""
        found = [one for name, one in self.results.get((group, classes), {}).items() if name.startswith(beginning)]
        return min(found, key=lambda one: one.seconds, default=None)

    def compare(self, group: str, classes: int, ours: Mapping[str, str], rivals: Mapping[str, str], goals: Mapping[str, float]) -> Found:
        """How many times faster ours are than rivals, and their share of the floor.

        Args:
            ours, rivals: beginnings of names, by what the figures call them.
            goals: for some of the figures.
        """
        figures: dict[str, float | str] = {}
        for title, beginning in ours.items():
            one = self.fastest(group, classes, beginning)
            for rival, other in rivals.items():
                theirs = self.fastest(group, classes, other)
                if one is not None and theirs is not None:
                    figures[f"{title} × {rival}"] = theirs.seconds / one.seconds
            if one is not None and one.share is not None:
                figures[f"{title} of floor"] = one.share
        return Found(figures, goals=goals)
