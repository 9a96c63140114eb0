"""Figures of a segmentation, all of them from one confusion matrix.

C classes. The matrix has C × C counts, or the counts of the pairs that occur where C is large; nothing here grows with pixels × classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from shared.constants import IGNORE_INDEX
from shared.errors import InputError

DENSE_CLASSES = 4096
"""Most classes whose counts are a square matrix (128 MiB). Of more classes, only the pairs that occur are stored."""


class ConfusionMatrix:
    """Pixel counts of every pair (label, prediction), and the metrics that follow from them.

    The counts live where the last label map lives, so that nothing is copied from a GPU until a metric is asked for.

    Args:
        num_classes: C.
        ignore_index: label of pixels that are not counted, whatever was predicted there.
    """

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
        if num_classes < 1:
            raise InputError(f"num_classes is {num_classes}; a confusion matrix needs at least 1")
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self._counts = _DenseCounts(num_classes**2) if num_classes <= DENSE_CLASSES else _SparseCounts()

    def update(self, prediction: torch.Tensor, label_map: torch.Tensor) -> None:
        """Count the pixels of a batch.

        Args:
            prediction: integer class ids in [0, C), any shape; pixels with an ignored label may hold anything.
            label_map: integer class ids in [0, C) or `ignore_index`, same shape and device.

        Raises:
            InputError: other shape, not integer, or an id out of range; the counts stay as they were.
        """
        if prediction.shape != label_map.shape:
            raise InputError(f"prediction has shape {tuple(prediction.shape)}, label map {tuple(label_map.shape)}; they must be equal")
        label_ids, predicted_ids = self._integers(label_map, "label map"), self._integers(prediction, "prediction")
        valid = label_ids != self.ignore_index
        label_ids, predicted_ids = label_ids[valid], predicted_ids[valid]
        # before anything is added: a wrong id would be the pair of another label
        self._require_range(label_ids, "label map")
        self._require_range(predicted_ids, "prediction")
        pairs = label_ids * self.num_classes + predicted_ids
        self._counts.add(*torch.unique_consecutive(pairs, return_counts=True))  # runs of equal pixels: far fewer than pixels

    @classmethod
    def total(cls, matrices: "Sequence[ConfusionMatrix]") -> "ConfusionMatrix":
        """The counts of several matrices together, at least one."""
        total = cls(matrices[0].num_classes, matrices[0].ignore_index)
        for matrix in matrices:
            total.add(matrix)
        return total

    def cpu(self) -> "ConfusionMatrix":
        """The same counts on the CPU."""
        copy = ConfusionMatrix(self.num_classes, self.ignore_index)
        copy._counts.add(*(tensor.cpu() for tensor in self._counts.pairs()))
        return copy

    def add(self, other: "ConfusionMatrix") -> None:
        """Add the counts of another matrix of the same classes, such as another process's."""
        if other.num_classes != self.num_classes:
            raise InputError(f"cannot add a confusion matrix of {other.num_classes} classes to one of {self.num_classes}")
        self._counts.add(*other._counts.pairs())

    @property
    def counts(self) -> torch.Tensor:
        """(C, C) int64, rows = label, columns = prediction; for few classes: it needs memory for C² numbers."""
        pairs, counts = self._counts.pairs()
        return counts.new_zeros(self.num_classes**2).scatter_(0, pairs, counts).view(self.num_classes, -1)

    @property
    def labelled_pixels(self) -> torch.Tensor:
        """(C,) int64, counted pixels with each label."""
        return self._totals().labelled

    @property
    def num_pixels(self) -> int:
        """Pixels counted."""
        return int(self._counts.pairs()[1].sum())

    def iou(self) -> torch.Tensor:
        """Intersection over union per class, (C,) float64 in [0, 1]; nan for a class that neither labels nor predictions hold."""
        labelled, predicted, right = self._totals()
        # float64, as float32 counts exactly to 2²⁴ only, which a few images pass
        return (right.double() / (labelled + predicted - right)).cpu()  # 0 / 0 is nan

    def miou(self) -> float:
        """Mean IoU over the classes that occur in labels or predictions, in [0, 1].

        A class that was predicted but never labelled counts as 0; one that is in neither is left out. nan when nothing was counted.
        """
        return self.iou().nanmean().item()

    def pixel_accuracy(self) -> float:
        """Share of the counted pixels whose prediction is right, in [0, 1]; nan when nothing was counted."""
        labelled, _, right = self._totals()
        return (right.sum().double() / labelled.sum()).item()

    def mean_accuracy(self) -> float:
        """Mean over the labelled classes of the share of their pixels that were found, in [0, 1]; nan when nothing was counted."""
        labelled, _, right = self._totals()
        return (right.double() / labelled).nanmean().item()

    def fwiou(self) -> float:
        """IoU weighted with how many pixels each class has in the labels, in [0, 1]; nan when nothing was counted."""
        labelled = self.labelled_pixels.cpu()
        present = labelled > 0
        weights = labelled[present].double()
        return ((weights * self.iou()[present]).sum() / weights.sum()).item()

    def _totals(self) -> "_Totals":
        pairs, counts = self._counts.pairs()
        labels, predictions = pairs // self.num_classes, pairs % self.num_classes
        zeros = counts.new_zeros(self.num_classes)
        right = counts * (labels == predictions)
        return _Totals(*(zeros.scatter_add(0, ids, add) for ids, add in ((labels, counts), (predictions, counts), (labels, right))))

    @staticmethod
    def _integers(ids: torch.Tensor, name: str) -> torch.Tensor:
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise InputError(f"{name} has type {ids.dtype}; integer class ids were expected (an argmax is missing?)")
        return ids.flatten().to(torch.int64)

    def _require_range(self, ids: torch.Tensor, name: str) -> None:
        if ids.numel() == 0:
            return
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high >= self.num_classes:
            wrong = low if low < 0 else high
            expected = f"0 to {self.num_classes - 1}, or {self.ignore_index} for ignored labels"
            raise InputError(f"{name} holds class id {wrong}; expected were {expected}")


def cumulative_miou(pixels: np.ndarray, iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mIoU of the n most frequent classes, for every n (the paper's Figure 6).

    Args:
        pixels: (C,) labelled pixels of each class.
        iou: (C,).

    Returns:
        (class ids, most frequent first (M,), mean of `iou` over the classes so far (M,)) of the M classes that are labelled.
    """
    order = np.argsort(-pixels, kind="stable")
    order = order[pixels[order] > 0]
    return order, np.cumsum(iou[order]) / np.arange(1, len(order) + 1)


class _Totals(NamedTuple):
    """(C,) int64 each: counted pixels with a label, with a prediction, and with both."""

    labelled: torch.Tensor
    predicted: torch.Tensor
    right: torch.Tensor


class _DenseCounts:
    """A count for each of `size` pair ids, zeros included."""

    def __init__(self, size: int) -> None:
        self._counts = torch.zeros(size, dtype=torch.int64)

    def add(self, pairs: torch.Tensor, counts: torch.Tensor) -> None:
        """Add counts (n,) int64 of pair ids (n,) int64, which may repeat."""
        # into the matrix itself: bincount would make a second one of C × C at every call
        self._counts = self._counts.to(pairs.device).scatter_add_(0, pairs, counts)

    def pairs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The pair ids that occur, ascending, and their counts."""
        pairs = self._counts.nonzero().squeeze(1)
        return pairs, self._counts[pairs]


class _SparseCounts:
    """A count for each pair id that occurs; the same methods as `_DenseCounts`.

    New pairs are kept apart until they are more than those before. So a batch rarely costs more than sorting its own pairs, and there is
    never more than twice the memory of the pairs that occur, and one batch.
    """

    def __init__(self) -> None:
        nothing = torch.zeros(0, dtype=torch.int64)
        self._parts = [(nothing, nothing)]

    def add(self, pairs: torch.Tensor, counts: torch.Tensor) -> None:
        self._parts.append(_summed(pairs, counts))
        if sum(len(part) for part, _ in self._parts[1:]) > len(self._parts[0][0]):
            self._merge()

    def pairs(self) -> tuple[torch.Tensor, torch.Tensor]:
        if len(self._parts) > 1:
            self._merge()
        return self._parts[0]

    def _merge(self) -> None:
        device = self._parts[-1][0].device
        pairs, counts = (torch.cat([tensor.to(device) for tensor in tensors]) for tensors in zip(*self._parts))
        self._parts = [_summed(pairs, counts)]


def _summed(pairs: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pair ids, ascending, each once, and the sums of their counts."""
    distinct, places = pairs.unique(return_inverse=True)
    return distinct, torch.zeros_like(distinct).scatter_add_(0, places, counts)
