"""Whether what was measured reaches what was wanted."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.benchmark.report import Table, number


@dataclass(frozen=True)
class Goal:
    """A figure and its two marks.

    Attributes:
        title: what the figure is.
        value: the figure; None where this run did not measure it.
        must, stretch: the marks.
        unit: behind the figures.
        at_most: the figure is wanted small instead of large.
    """

    title: str
    value: float | None
    must: float
    stretch: float
    unit: str = "×"
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """How far the figure gets."""
        if self.value is None:
            return "not measured"
        if self._reaches(self.stretch):
            return "stretch met"
        return "met" if self._reaches(self.must) else "missed"

    def _reaches(self, mark: float) -> bool:
        assert self.value is not None
        return self.value <= mark if self.at_most else self.value >= mark


def goal_table(goals: Sequence[Goal]) -> Table:
    """One row per goal that was measured."""
    rows = []
    for goal in goals:
        if goal.value is None:
            continue
        bound = "≤" if goal.at_most else "≥"
        marks = [f"{bound} {number(mark)}" for mark in (goal.must, goal.stretch)]
        rows.append([goal.title, f"{number(goal.value)} {goal.unit}", *marks, goal.verdict])
    return Table(["", "this run", "must", "stretch", "verdict"], rows)
