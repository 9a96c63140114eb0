"""How well each class is segmented, under two or more columns, and what follows from it. C classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.metrics import cumulative_miou


@dataclass(frozen=True)
class ClassScores:
    """IoU of every class under each column: of two networks, or of one network on the images of each arm.

    Attributes:
        title, note: heading, and a sentence on what was measured.
        class_names: (C).
        palette: (C, 3) uint8.
        pixels: (C,) labelled pixels of each class; 0 for a class that does not occur.
        iou: column → (C,) in percent, nan for a class that neither labels nor predictions hold.
    """

    title: str
    note: str
    class_names: Sequence[str]
    palette: np.ndarray
    pixels: np.ndarray
    iou: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        counts = [len(self.class_names), len(self.palette), len(self.pixels), *(len(values) for values in self.iou.values())]
        if len(set(counts)) != 1:
            raise ValueError(f"class scores: {counts} names, colours, pixel counts and figures; expected as many of each")

    @property
    def columns(self) -> list[str]:
        return list(self.iou)

    @property
    def change(self) -> np.ndarray:
        """(C,) percentage points from the first column to the last; nan where either has no figure."""
        # twice, so that a single column is both first and last
        first, *_, last = [*self.iou.values(), *self.iou.values()]
        return np.asarray(last, np.float64) - np.asarray(first, np.float64)

    def curves(self) -> dict[str, np.ndarray]:
        """Column → mIoU of the n most frequent classes for every n, in percent (the paper's Figure 6)."""
        return {column: cumulative_miou(self.pixels, values)[1] for column, values in self.iou.items()}


@dataclass(frozen=True)
class Change:
    """A class with its labelled pixels, its colour as #rrggbb, and the percentage points it gained."""

    name: str
    colour: str
    pixels: int
    points: float


def extremes(scores: ClassScores, count: int = 8) -> tuple[list[Change], list[Change]]:
    """The `count` labelled classes that gained most, best first, and those that lost most, worst first; none is in both."""
    change = np.where(scores.pixels > 0, scores.change, np.nan)
    ids = np.flatnonzero(np.isfinite(change))
    ids = ids[np.argsort(-change[ids], kind="stable")]
    gained, lost = ids[change[ids] > 0][:count], ids[change[ids] < 0][::-1][:count]
    return _changes(scores, gained, change), _changes(scores, lost, change)


def hex_colour(colour: np.ndarray) -> str:
    """(3,) uint8 → "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*(int(value) for value in colour))


def _changes(scores: ClassScores, ids: np.ndarray, change: np.ndarray) -> list[Change]:
    return [
        Change(scores.class_names[index], hex_colour(scores.palette[index]), int(scores.pixels[index]), float(change[index]))
        for index in ids
    ]
