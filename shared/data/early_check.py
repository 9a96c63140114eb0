"""A look at a split before a training begins, so that a label or size that its evaluation would refuse ends it before the first step."""

import time
from dataclasses import dataclass

import numpy as np

from shared.data.pairs import PairDataset
from shared.data.spec import SegmentationDataset
from shared.distributed import gather, my_share
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

    Returns:
        None for data that is not stored in files: then nothing can be wrong with it.

    Raises:
        InputError: as reading the sample does; in every process.
    """
    if not isinstance(dataset, PairDataset):
        return None
    end, sizes, problem = time.monotonic() + seconds, [], None
    for index in spread(len(dataset))[list(my_share(len(dataset)))]:
        try:
            sizes.append(dataset.check(int(index)))
        except InputError as error:
            problem = str(error)
        if problem is not None or time.monotonic() > end:
            break
    shares = gather((sizes, problem))
    for _, found in shares:
        if found is not None:
            raise InputError(found)
    together = [size for mine, _ in shares for size in mine]
    return EarlyCheck(len(together), len(dataset), min(together, key=min, default=None))


def spread(count: int) -> np.ndarray:
    """(count,) the numbers below `count`, in an order whose every beginning is spread over all of them: steps of the golden ratio."""
    golden = (5**0.5 - 1) / 2
    return np.argsort(np.argsort(np.arange(count) * golden % 1, kind="stable"), kind="stable")
