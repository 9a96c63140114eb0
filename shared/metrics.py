"""Figures of a segmentation, all of them from one confusion matrix.

C classes. The matrix has C × C counts and nothing here grows with pixels × classes.
"""

import torch

from shared.constants import IGNORE_INDEX
from shared.errors import InputError


class ConfusionMatrix:
    """Pixel counts of every pair (label, prediction), and the metrics that follow from them.

    The counts live where the first label map lives, so that nothing is copied from a GPU until a metric is asked for.

    Args:
        num_classes: C.
        ignore_index: label of pixels that are not counted, whatever was predicted there.

    Attributes:
        counts: (C, C) int64, rows = label, columns = prediction.
    """

    def __init__(self, num_classes: int, ignore_index: int = IGNORE_INDEX) -> None:
        if num_classes < 1:
            raise InputError(f"num_classes is {num_classes}; a confusion matrix needs at least 1")
        self.num_classes, self.ignore_index = num_classes, ignore_index
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

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
        self._require_range(label_ids, "label map")
        self._require_range(predicted_ids, "prediction")
        self.counts = self.counts.to(label_ids.device)
        # scatter_add_ into the matrix itself: bincount would make a second C × C matrix at every call.
        one = torch.ones((), dtype=torch.int64, device=label_ids.device)
        self.counts.view(-1).scatter_add_(0, label_ids * self.num_classes + predicted_ids, one.expand_as(label_ids))

    def add(self, other: "ConfusionMatrix") -> None:
        """Add the counts of another matrix of the same classes, such as another process's."""
        if other.num_classes != self.num_classes:
            raise InputError(f"cannot add a confusion matrix of {other.num_classes} classes to one of {self.num_classes}")
        self.counts += other.counts.to(self.counts.device)

    def iou(self) -> torch.Tensor:
        """Intersection over union per class, (C,) float64 in [0, 1]; nan for a class that neither labels nor predictions hold."""
        union = self._labelled + self._predicted - self._hits
        return (self._hits / union).cpu()  # 0 / 0 is nan

    def miou(self) -> float:
        """Mean IoU over the classes that occur in labels or predictions, in [0, 1].

        A class that was predicted but never labelled counts as 0; one that is in neither is left out. nan when nothing was counted.
        """
        return self.iou().nanmean().item()

    def pixel_accuracy(self) -> float:
        """Share of the counted pixels whose prediction is right, in [0, 1]; nan when nothing was counted."""
        return (self._hits.sum() / self._labelled.sum()).item()

    def mean_accuracy(self) -> float:
        """Mean over the labelled classes of the share of their pixels that were found, in [0, 1]; nan when nothing was counted."""
        return (self._hits / self._labelled).nanmean().item()

    def fwiou(self) -> float:
        """IoU weighted with how many pixels each class has in the labels, in [0, 1]; nan when nothing was counted."""
        present = self._labelled.cpu() > 0
        weights = self._labelled.cpu()[present]
        return ((weights * self.iou()[present]).sum() / weights.sum()).item()

    @property
    def _hits(self) -> torch.Tensor:
        return self.counts.diagonal().double()

    @property
    def _labelled(self) -> torch.Tensor:
        return self.counts.sum(1).double()

    @property
    def _predicted(self) -> torch.Tensor:
        return self.counts.sum(0).double()

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
