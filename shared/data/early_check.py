"""A look at a split before work on it begins: what that would refuse, or what looks like a mistake, is said before the first step."""

import time
from dataclasses import dataclass

import numpy as np

from shared.data.pairs import PairDataset
from shared.data.spec import SegmentationDataset
from shared.data.statistics import ClassStatistics, SampleCounts, count_classes
from shared.data.survey import Survey, complaint
from shared.distributed import gather, is_first, my_share
from shared.errors import InputError

SECONDS = 5.0
"""That the look takes at most; what is read by then is spread over the split."""


@dataclass(frozen=True)
class EarlyCheck:
    """What was looked at.

    Attributes:
        checked, total: samples.
        smallest: (height, width) of the one with the shortest side; None where nothing was looked at.
    """

    checked: int
    total: int
    smallest: tuple[int, int] | None

    def line(self, split: str) -> str:
        """For a reader."""
        rest = "" if self.checked == self.total else f"; for all of them: python -m shared.data check, with --split {split}"
        return f"checked labels and sizes of {self.checked} of {self.total} {split} images{rest}"


def check_early(dataset: SegmentationDataset, seconds: float = SECONDS) -> EarlyCheck | None:
    """Read labels and sizes of as many samples as `seconds` allow, at least one, spread over the split. Several processes share them.

    Each goes on beyond that until one of its samples is labelled. The first process prints the `complaint` about what was read.

    Returns:
        None for data that is not stored in files: then nothing can be wrong with it.

    Raises:
        InputError: as reading a sample does, or nothing is labelled in the split; in every process.
    """
    if not isinstance(dataset, PairDataset):
        return None
    end, found, problem = time.monotonic() + seconds, list[SampleCounts](), None
    labelled = False
    for index in spread(len(dataset))[list(my_share(len(dataset)))]:
        try:
            found.append(count_classes(dataset.sample_name(index), dataset.check(int(index)).numpy()))
        except InputError as error:
            problem = str(error)
            break
        labelled = labelled or len(found[-1].class_ids) > 0
        if labelled and time.monotonic() > end:
            break
    shares = gather((found, problem))
    for _, message in shares:
        if message is not None:
            raise InputError(message)
    together = [counts for mine, _ in shares for counts in mine]
    survey = Survey(ClassStatistics.collect(dataset.spec, dataset.split, together), len(dataset))
    if (line := complaint(survey, dataset)) and is_first():
        print(f"warning: {line}", flush=True)
    return EarlyCheck(len(together), len(dataset), min(survey.statistics.sizes, key=min, default=None))


def spread(count: int) -> np.ndarray:
    """(count,) the numbers below `count`, in an order whose every beginning is spread over all of them: steps of the golden ratio."""
    golden = (5**0.5 - 1) / 2
    return np.argsort(np.argsort(np.arange(count) * golden % 1, kind="stable"), kind="stable")
