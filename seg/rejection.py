"""Pixels that are of none of the classes: told by their confidence, whose threshold is chosen for a rate of false alarms.

A confidence is a number from -1 to 1, see `Segmenter.confidence`. Of many pixels only a histogram is kept.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from shared.errors import InputError
from shared.files.json_file import write_json

REJECTION_FILE = "rejection.json"
"""Name of the file in a run directory."""
BINS = 20_000


class Confidences:
    """How many pixels have which confidence, in steps of 0.0001."""

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.int64)

    def add(self, values: torch.Tensor) -> None:
        """Count values in [-1, 1]."""
        places = ((values.flatten().double() + 1) * (BINS / 2)).long().clamp(0, BINS - 1)
        self.counts += torch.bincount(places.cpu(), minlength=BINS)

    @property
    def total(self) -> int:
        """Values counted."""
        return int(self.counts.sum())

    def threshold(self, share: float) -> float:
        """The largest step below which at most `share` of the values lie."""
        below = torch.cat([self.counts.new_zeros(1), self.counts.cumsum(0)])
        return 2 * int((below <= share * self.total).nonzero().max()) / BINS - 1

    def share_below(self, threshold: float) -> float:
        """Share of the values below a step; nan of none."""
        place = round((threshold + 1) * BINS / 2)
        return int(self.counts[:place].sum()) / self.total if self.total else float("nan")


def auroc(known: Confidences, unknown: Confidences) -> float:
    """Probability that a known pixel has a larger confidence than an unknown one, equal ones counted half."""
    below = unknown.counts.cumsum(0) - unknown.counts
    wins = (known.counts.double() * (below.double() + unknown.counts.double() / 2)).sum()
    return float(wins / (known.total * unknown.total)) if known.total and unknown.total else float("nan")


def false_positives(known: Confidences, unknown: Confidences, found: float = 0.95) -> float:
    """Share of the known pixels that are rejected where a share `found` of the unknown ones is."""
    if not unknown.total:
        return float("nan")
    below = torch.cat([unknown.counts.new_zeros(1), unknown.counts.cumsum(0)])
    return known.share_below(2 * int((below >= found * unknown.total).nonzero().min()) / BINS - 1)


@dataclass(frozen=True)
class Rejection:
    """What is kept with a run.

    Attributes:
        threshold: pixels with a smaller confidence are rejected.
        false_alarms: the share of pixels of known classes for which it was chosen.
        step: of the checkpoint.
        images, split: on which it was chosen.
        unknown: pixels of classes that were ignored in the training: how many, how well they are told from the known ones (auroc, fpr95)
            and what share of them is rejected; empty where there are none.
    """

    threshold: float
    false_alarms: float
    step: int
    images: int
    split: str
    unknown: dict[str, float]

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, run: Path, step: int) -> "Rejection":
        """That of a run.

        Raises:
            InputError: there is none, it cannot be read, or it is that of another step.
        """
        path = run / REJECTION_FILE
        advice = f"choose it with python -m seg.calibrate {run}"
        if not path.is_file():
            raise InputError(f"{run} has no threshold for rejected pixels; {advice}")
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError(f"cannot read {path}: {error}; {advice}") from error
        if found.step != step:
            raise InputError(f"the threshold in {path} is that of step {found.step}, but the network is that of step {step}; {advice}")
        return found
