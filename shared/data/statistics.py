"""What a data set holds: how often each class occurs, and which picture sizes there are."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from shared.constants import IGNORE_INDEX
from shared.data.spec import SegmentationDataset
from shared.errors import InputError
from shared.training import progress

Result = TypeVar("Result")


@dataclass(frozen=True)
class ClassStatistics:
    """Counts over one split.

    Attributes:
        pixels: (C,) int64 pixels of each class.
        images: (C,) int64 images in which each class occurs.
        ignored_pixels: pixels without a class.
        sizes: number of images of each (height, width).
    """

    pixels: np.ndarray
    images: np.ndarray
    ignored_pixels: int
    sizes: Counter[tuple[int, int]]


def class_statistics(dataset: SegmentationDataset, num_threads: int = 2) -> ClassStatistics:
    """Read every sample of a split once.

    Raises:
        InputError: a sample cannot be read.
    """
    num_classes = dataset.spec.num_classes

    def count(index: int) -> tuple[np.ndarray, tuple[int, int]]:
        label_map = dataset[index].label_map.numpy()
        height, width = label_map.shape
        return np.bincount(label_map.ravel() - IGNORE_INDEX, minlength=num_classes + 1), (height, width)

    pixels, images, sizes = np.zeros(num_classes + 1, np.int64), np.zeros(num_classes + 1, np.int64), Counter[tuple[int, int]]()
    for counts, size in _for_each(dataset, count, "statistics", num_threads):
        pixels += counts
        images += counts > 0
        sizes[size] += 1
    return ClassStatistics(pixels[1:], images[1:], int(pixels[0]), sizes)


def find_problems(dataset: SegmentationDataset, num_threads: int = 2) -> list[str]:
    """Read every sample of a split and give the message of each that fails, in order."""

    def problem(index: int) -> str | None:
        try:
            dataset[index]
        except InputError as error:
            return str(error)
        return None

    return [message for message in _for_each(dataset, problem, "check", num_threads) if message is not None]


def _for_each(dataset: SegmentationDataset, work: Callable[[int], Result], title: str, num_threads: int) -> Iterator[Result]:
    """Results in order. Threads are enough: decoding pictures happens outside Python's lock."""
    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        results = pool.map(work, range(len(dataset)))
        yield from progress(results, f"{title} {dataset.split}", total=len(dataset), unit="sample")
