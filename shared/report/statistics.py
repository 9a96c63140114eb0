"""Numbers over seeds: means, deviations, confidence intervals of paired differences, and the sentences and caveats that follow."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from shared.report.model import ComparisonReport, Score, ScoreKind

CONFIDENCE = 0.95
ALL_PAIRS = 4
"""Most arms that are compared two by two; more arms would give too many pairs."""


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


@dataclass(frozen=True)
class PairedDifference:
    """An arm's score minus that of the arm it is compared with at the same seed, for every seed that both have.

    Attributes:
        semantics: the arm.
        other: the arm that is taken away.
        interval: of the mean difference, at `CONFIDENCE`, by Student's t over seeds.
    """

    semantics: str
    other: str
    score: str
    spread: Spread
    interval: tuple[float, float]

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval[0] > 0 or self.interval[1] < 0


def paired_differences(report: ComparisonReport) -> list[PairedDifference]:
    """Every two arms, or with many arms every one and the first, by every score that both have at two seeds or more.

    The baseline is the first arm where it is one of them.
    """
    # a stable sort: the baseline first, the others as they were
    arms = sorted(report.arms, key=lambda arm: arm != report.baseline)
    differences = []
    for other, semantics in combinations(arms, 2) if len(arms) <= ALL_PAIRS else [(arms[0], arm) for arm in arms[1:]]:
        for kind in report.score_kinds:
            ours, base = scores_of(report, semantics, kind.name), scores_of(report, other, kind.name)
            values = {seed: ours[seed].value - base[seed].value for seed in ours if seed in base}
            if len(values) > 1:
                spread = spread_over_seeds(values)
                differences.append(PairedDifference(semantics, other, kind.name, spread, confidence_interval(spread)))
    return differences


def confidence_interval(spread: Spread) -> tuple[float, float]:
    """Where the mean over all seeds lies, at `CONFIDENCE`, if the values are normal: mean ± t · deviation / √n."""
    from scipy.special import stdtrit  # takes a moment to import

    assert spread.deviation is not None, "an interval needs two values"
    count = len(spread.values)
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * spread.deviation / math.sqrt(count)
    return spread.mean - half, spread.mean + half


def conclusions(report: ComparisonReport) -> list[str]:
    """A sentence per score on which arms the seeds tell apart; nothing without two seeds."""
    differences = paired_differences(report)
    sentences = [_conclusion(kind, [found for found in differences if found.score == kind.name]) for kind in report.score_kinds]
    sentences = [sentence for sentence in sentences if sentence]
    if sentences:
        sentences.append(
            f"The intervals hold one by one: of {len(differences)} of them, about {len(differences) * (1 - CONFIDENCE):.1f} would leave 0 "
            "out by chance if no two arms differed."
        )
    return sentences


def _conclusion(kind: ScoreKind, differences: Sequence[PairedDifference]) -> str:
    parts = []
    for found in differences:
        if found.told_apart:
            better = (found.spread.mean < 0) == kind.lower_is_better
            low, high = sorted(map(abs, found.interval))
            parts.append(f"{found.semantics} is {'better' if better else 'worse'} than {found.other} by {low:.3g} to {high:.3g}")
    unclear = [f"{found.semantics} and {found.other}" for found in differences if not found.told_apart]
    if unclear and not parts:
        parts.append("the seeds tell no two arms apart")
    elif unclear:
        parts.append(f"the seeds do not tell {', '.join(unclear)} apart")
    return f"{kind.name}: {'; '.join(parts)}." if parts else ""
