"""What a data set holds: how often each class occurs in each sample, and which picture sizes there are.

S: samples; E: pairs of a sample and a class that occurs in it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from shared.constants import IGNORE_INDEX
from shared.data.spec import DatasetSpec, SegmentationDataset
from shared.data.workers import parallel_map
from shared.errors import InputError
from shared.files.tensor_file import read_tensors, write_tensors

_KIND = "class statistics/1"
_ARRAYS = ("sample_sizes", "ignored", "starts", "class_ids", "counts")


@dataclass(frozen=True)
class SampleCounts:
    """Counts of one label map.

    Attributes:
        name: of the sample.
        size: (height, width).
        class_ids, pixels: the classes that occur, in ascending order, and the pixels of each.
        ignored: pixels without a class.
    """

    name: str
    size: tuple[int, int]
    class_ids: np.ndarray
    pixels: np.ndarray
    ignored: int


def count_classes(name: str, label_map: np.ndarray) -> SampleCounts:
    """Count the pixels of each class in an (H, W) map of ids or `IGNORE_INDEX`."""
    # shifted by one: bin 0 is that of ignored pixels
    counts = np.bincount(label_map.ravel().astype(np.int64) - IGNORE_INDEX, minlength=1)
    class_ids = np.flatnonzero(counts[1:])
    height, width = label_map.shape
    return SampleCounts(name, (height, width), class_ids.astype(np.int32), counts[1:][class_ids], int(counts[0]))


@dataclass(frozen=True)
class ClassStatistics:
    """Counts over one split; what the samplers of training read.

    Attributes:
        dataset, split, class_names: what was counted.
        names: S sample names, in the order of the data set.
        sample_sizes: (S, 2) int32 height and width.
        ignored: (S,) int64 pixels without a class.
        starts: (S + 1,) int64; sample s has the entries starts[s] … starts[s + 1] − 1.
        class_ids, counts: (E,) int32 and int64, the class of an entry and its pixels.
    """

    dataset: str
    split: str
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    sample_sizes: np.ndarray
    ignored: np.ndarray
    starts: np.ndarray
    class_ids: np.ndarray
    counts: np.ndarray

    @classmethod
    def collect(cls, spec: DatasetSpec, split: str, samples: Iterable[SampleCounts]) -> "ClassStatistics":
        """Put the counts of all samples together."""
        found = list(samples)
        return cls(
            spec.name,
            split,
            spec.class_names,
            tuple(sample.name for sample in found),
            np.array([sample.size for sample in found], np.int32).reshape(-1, 2),
            np.array([sample.ignored for sample in found], np.int64),
            np.cumsum([0, *(len(sample.class_ids) for sample in found)]),
            np.fromiter(chain.from_iterable(sample.class_ids for sample in found), np.int32),
            np.fromiter(chain.from_iterable(sample.pixels for sample in found), np.int64),
        )

    @cached_property
    def pixels(self) -> np.ndarray:
        """(C,) int64 pixels of each class."""
        sums = np.zeros(len(self.class_names), np.int64)
        # `sums[ids] += counts` would add a class that stands there twice only once
        np.add.at(sums, self.class_ids, self.counts)
        return sums

    @cached_property
    def images(self) -> np.ndarray:
        """(C,) int64 images in which each class occurs."""
        return np.bincount(self.class_ids, minlength=len(self.class_names))

    @property
    def ignored_pixels(self) -> int:
        """Pixels without a class."""
        return int(self.ignored.sum())

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Number of images of each (height, width)."""
        return Counter((int(height), int(width)) for height, width in self.sample_sizes)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all."""
        arrays = {key: getattr(self, key) for key in _ARRAYS}
        about = {"dataset": self.dataset, "split": self.split, "class_names": self.class_names, "names": self.names}
        write_tensors(path, {key: torch.from_numpy(array) for key, array in arrays.items()}, _KIND, about)

    @classmethod
    def load(cls, path: str | Path) -> "ClassStatistics":
        """Read what `save` wrote.

        Raises:
            InputError: no such file, damaged, or of another kind.
        """
        tensors, about = read_tensors(path, _KIND)
        return cls(
            about["dataset"],
            about["split"],
            tuple(about["class_names"]),
            tuple(about["names"]),
            *(tensors[key].numpy() for key in _ARRAYS),
        )

    def require_match(self, dataset: SegmentationDataset, path: str | Path) -> None:
        """Refuse counts of another data set, split or state of the files.

        Raises:
            InputError: says what differs.
        """
        names = tuple(dataset.sample_name(index) for index in range(len(dataset)))
        for what, ours, theirs in (
            ("data set", dataset.spec.name, self.dataset),
            ("split", dataset.split, self.split),
            ("number of classes", dataset.spec.num_classes, len(self.class_names)),
            ("number of samples", len(names), len(self.names)),
        ):
            if ours != theirs:
                raise InputError(f"{path} counts {what} {theirs}, but it is {ours} here; count again: python -m shared.data stats")
        if self.class_names != dataset.spec.class_names or self.names != names:
            raise InputError(f"{path} counts other classes or samples than there are here; count again: python -m shared.data stats")


def class_statistics(dataset: SegmentationDataset, num_workers: int = 0) -> ClassStatistics:
    """Read every sample of a split once.

    Raises:
        InputError: a sample cannot be read.
    """
    samples = parallel_map(
        _count, dataset, range(len(dataset)), num_workers=num_workers, title=f"statistics {dataset.split}", unit="sample"
    )
    return ClassStatistics.collect(dataset.spec, dataset.split, samples)


@dataclass(frozen=True)
class Checked:
    """What a check of a split found.

    Attributes:
        problems: the messages of each sample that has any, in order.
        notes: what is right and may surprise, a line each.
        statistics: counts of the label maps that can be read.
    """

    problems: list[list[str]]
    notes: list[str]
    statistics: ClassStatistics


def check_split(dataset: SegmentationDataset, num_workers: int = 0) -> Checked:
    """Read every file of a split."""
    found = list(
        parallel_map(_inspect, dataset, range(len(dataset)), num_workers=num_workers, title=f"check {dataset.split}", unit="sample")
    )
    counts = [sample for _, _, sample in found if sample is not None]
    problems, notes = [messages for messages, _, _ in found if messages], [note for _, notes, _ in found for note in notes]
    return Checked(problems, notes, ClassStatistics.collect(dataset.spec, dataset.split, counts))


def _count(dataset: SegmentationDataset, index: int) -> SampleCounts:
    sample = dataset[index]
    return count_classes(sample.name, sample.label_map.numpy())


def _inspect(dataset: SegmentationDataset, index: int) -> tuple[list[str], list[str], SampleCounts | None]:
    found, name = dataset.inspect(index), dataset.sample_name(index)
    return found.problems, found.notes, None if found.label_map is None else count_classes(name, found.label_map.numpy())
