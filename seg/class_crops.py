"""A small picture of every class, for TensorBoard's projector. C classes."""

import numpy as np
import torch
import torch.nn.functional as F

from shared.data.spec import SegmentationDataset
from shared.data.statistics import ClassStatistics
from shared.run.training import progress


def class_colours(palette: np.ndarray, size: int = 8) -> torch.Tensor:
    """(C, 3, size, size) float in [0, 1]: squares in the colours (C, 3) uint8 of the classes."""
    return torch.from_numpy(palette.astype(np.float32) / 255)[:, :, None, None].repeat(1, 1, size, size)


def class_crops(dataset: SegmentationDataset, statistics: ClassStatistics, size: int = 32) -> torch.Tensor:
    """(C, 3, size, size) float in [0, 1]: from the image that has most of a class, a square around its pixels; else its colour."""
    crops = class_colours(dataset.spec.palette, size)
    samples = np.repeat(np.arange(len(statistics.names)), np.diff(statistics.starts))
    order = np.lexsort((samples, -statistics.counts, statistics.class_ids))
    classes, first = np.unique(statistics.class_ids[order], return_index=True)
    best = samples[order[first]]
    for index in progress(np.unique(best).tolist(), "crops", total=len(np.unique(best)), unit="image"):
        sample = dataset[index]
        for class_id in classes[best == index].tolist():
            crops[class_id] = _square_around(sample.image, sample.label_map == class_id, size)
    return crops


def _square_around(image: torch.Tensor, mask: torch.Tensor, size: int) -> torch.Tensor:
    """(3, size, size) float: the smallest square of `image` (3, H, W) uint8 that holds the mask (H, W), or as much of it as there is."""
    (top, left), (bottom, right) = (bound(mask.nonzero(), dim=0) for bound in (torch.amin, torch.amax))
    side = min(int(max(bottom - top, right - left)) + 1, *image.shape[1:])
    start = [
        min(max(int(low + high + 1 - side) // 2, 0), whole - side)
        for low, high, whole in ((top, bottom, image.shape[1]), (left, right, image.shape[2]))
    ]
    square = image[:, start[0] : start[0] + side, start[1] : start[1] + side].float() / 255
    return F.interpolate(square[None], (size, size), mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)
