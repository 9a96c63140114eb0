"""How fast one core reads and augments samples, and so how many workers keep a training fed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from shared.data.spec import Sample, SegmentationDataset
from shared.data.transforms import TrainCrop

WARM_UP = 2  # samples


@dataclass(frozen=True)
class InputSpeed:
    """Samples per second on one core.

    Attributes:
        read: files to tensors of bytes and ids.
        augment: a crop of a sample in memory.
        both: what a worker of the training does.
    """

    read: float
    augment: float

    @property
    def both(self) -> float:
        return 1 / (1 / self.read + 1 / self.augment)


def measure_input(dataset: SegmentationDataset, crop: tuple[int, int], scale: tuple[float, float], seconds: float) -> InputSpeed:
    """Time reading, and augmenting for segmentation, each for about `seconds` on one thread.

    Args:
        dataset: samples are taken in order, again from the start after the last. Files that are read again come from the page cache.
        crop: (height, width).
        scale: range of the random factor before the crop.

    Raises:
        InputError: a sample that cannot be read, or a setting of `TrainCrop`.
    """
    transform = TrainCrop(crop, scale=scale, jitter=0.2)
    kept: list[Sample] = [dataset[index % len(dataset)] for index in range(8)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        read = _per_second(lambda index: dataset[index % len(dataset)], seconds)
        augment = _per_second(lambda index: transform(kept[index % len(kept)]), seconds)
    finally:
        torch.set_num_threads(threads)
    return InputSpeed(read, augment)


def _per_second(work: Callable[[int], object], seconds: float) -> float:
    for index in range(WARM_UP):
        work(index)
    done, start = 0, time.perf_counter()
    while done == 0 or time.perf_counter() - start < seconds:
        work(done)
        done += 1
    return done / (time.perf_counter() - start)
