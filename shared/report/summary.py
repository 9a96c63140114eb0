"""Numbers over seeds: means, deviations, and the caveats that follow from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.report.model import ComparisonReport, Score


@dataclass(frozen=True)
class Spread:
    """Values per seed with their mean and sample standard deviation; `deviation` is None for fewer than two values."""

    values: dict[int, float]
    mean: float
    deviation: float | None


def spread_over_seeds(values: dict[int, float]) -> Spread:
    """Mean and sample standard deviation of seed → value. A non-finite value makes both non-finite: none is dropped."""
    numbers = np.array(list(values.values()), dtype=np.float64)
    if not np.isfinite(numbers).all():
        return Spread(values, math.nan, math.nan if len(numbers) > 1 else None)
    return Spread(values, float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else None)


def scores_of(report: ComparisonReport, semantics: str, score: str) -> dict[int, Score]:
    """Seed → score of one arm, for the seeds where it was taken."""
    return {run.seed: run.scores[score] for run in report.runs_of(semantics) if score in run.scores}


def arm_spread(report: ComparisonReport, semantics: str, score: str) -> Spread | None:
    """The spread of a score over the seeds of one arm; None when it was never taken."""
    values = {seed: taken.value for seed, taken in scores_of(report, semantics, score).items()}
    return spread_over_seeds(values) if values else None


def count_range(counts: Sequence[int]) -> str:
    """ "500", or "490–500" when counts differ."""
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low}–{high}"


def caveats(report: ComparisonReport) -> list[str]:
    """The given notes, then what a reader must know and the numbers themselves show."""
    return [*report.notes, *_seed_caveats(report), *_score_caveats(report)]


def _seed_caveats(report: ComparisonReport) -> list[str]:
    found = []
    per_arm = {arm: [run.seed for run in report.runs_of(arm)] for arm in report.arms}
    if report.runs and max(map(len, per_arm.values())) == 1:
        found.append("One seed per arm: no error bar, so a difference between arms may be chance.")
    if len({tuple(seeds) for seeds in per_arm.values()}) > 1:
        listed = "; ".join(f"{arm}: {', '.join(map(str, seeds))}" for arm, seeds in per_arm.items())
        found.append(f"The arms were not trained with the same seeds ({listed}).")
    if len(steps := {run.steps for run in report.runs}) > 1:
        found.append(f"The arms were not trained for the same number of steps ({count_range(list(steps))}).")
    return found


def _score_caveats(report: ComparisonReport) -> list[str]:
    found = []
    for kind in report.score_kinds:
        taken = [(run, run.scores[kind.name]) for run in report.runs if kind.name in run.scores]
        if len({(score.num_real, score.num_generated) for _, score in taken}) > 1:
            found.append(f"{kind.name}: image counts differ between runs; such scores are comparable only at equal counts.")
        if len(taken) < len(report.runs):
            found.append(f"{kind.name}: missing for {len(report.runs) - len(taken)} of {len(report.runs)} runs.")
        if broken := [f"{run.semantics} seed {run.seed}" for run, score in taken if not math.isfinite(score.value)]:
            found.append(f"{kind.name}: not finite for {', '.join(broken)}; the mean of that arm is therefore not given.")
    return found
