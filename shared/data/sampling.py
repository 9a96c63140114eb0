"""How often rare classes are read: repeat factors of samples, and weights with which a crop chooses its class.

Shapes: S samples, C classes.
"""

from pathlib import Path

import numpy as np

from shared.data.spec import SegmentationDataset
from shared.data.statistics import ClassStatistics, class_statistics


def repeat_factors(statistics: ClassStatistics, threshold: float) -> np.ndarray:
    """(S,) float64 ≥ 1: how often an epoch reads each sample, by the rarest class in it (LVIS, arXiv 1908.03195, appendix B).

    With the share f of the samples that hold a class, its factor is max(1, √(threshold / f)); a sample has the largest of its classes.

    Args:
        statistics: counts of the split that is sampled.
        threshold: share of samples below which a class is repeated, in (0, 1]; LVIS has 0.001.
    """
    # at least 1: a class in no image would divide by 0, and no sample has its factor anyway
    shares = np.maximum(statistics.images, 1) / max(len(statistics.names), 1)
    by_class = np.maximum(1, np.sqrt(threshold / shares))
    factors = np.ones(len(statistics.names))
    np.maximum.at(factors, np.repeat(np.arange(len(factors)), np.diff(statistics.starts)), by_class[statistics.class_ids])
    return factors


def crop_weights(statistics: ClassStatistics) -> np.ndarray:
    """(C,) float64 > 0: weights with which a class-aware crop draws one of the classes in a picture, 1 / √(share of all pixels).

    A class without a pixel weighs as one with a single pixel.
    """
    shares = np.maximum(statistics.pixels, 1) / max(int(statistics.pixels.sum()), 1)
    weights: np.ndarray = 1 / np.sqrt(shares)
    return weights


def read_statistics(dataset: SegmentationDataset, path: str | Path) -> ClassStatistics:
    """The counts of a split that `python -m shared.data stats -o DIR` wrote.

    Raises:
        InputError: the file is missing, damaged, or counts something else.
    """
    statistics = ClassStatistics.load(path)
    statistics.require_match(dataset, path)
    return statistics


def count_once(dataset: SegmentationDataset, path: Path, num_workers: int) -> ClassStatistics:
    """The counts of a split, kept in `path` from the first time on.

    Raises:
        InputError: a sample cannot be read, or as `read_statistics`.
    """
    if not path.is_file():
        class_statistics(dataset, num_workers).save(path)
    return read_statistics(dataset, path)
