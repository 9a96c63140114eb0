"""What the seeds of a comparison allow to be said: confidence intervals of paired differences, and a sentence for every score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from shared.report.model import ComparisonReport, ScoreKind
from shared.report.summary import Spread, scores_of, spread_over_seeds

CONFIDENCE = 0.95
ALL_PAIRS = 4
"""Most arms that are compared two by two; there would be too many pairs of more."""


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
