"""An image of any size labelled with a trained network: resized as in training, at once or tile by tile.

H, W: height and width of the image.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from seg.inference import ViewConfig, predict_views, predict_with_confidence
from seg.trained import TrainedSegmenter
from shared.data.spec import Sample
from shared.data.transforms import EvalResize
from shared.errors import InputError
from shared.visualise import label_storage

SMALLEST_TILE = 64


def require_tile(tile: tuple[int, int] | None, trained: TrainedSegmenter | None = None, run: str = "") -> None:
    """Refuse a tile that is too small, or any where the network of `run` reads resized images."""
    if tile is None:
        return
    if min(tile) < SMALLEST_TILE:
        raise InputError(f"tile is {list(tile)}; both sides must be at least {SMALLEST_TILE}")
    resized = None if trained is None else trained.meta["config"]["input"]["resize"]
    if resized is not None:
        raise InputError(f"tile is {list(tile)}, but {run} reads whole images, resized to {list(resized)}; leave it out")


class Labels(NamedTuple):
    """What is predicted for an image.

    Attributes:
        ids: (H, W) in the type of label files, whose ignored value stands where pixels were rejected.
        confidence: (H, W) uint8, 255 for 1 and 0 for 0 and less; None where it was not wanted.
    """

    ids: np.ndarray
    confidence: np.ndarray | None


def predict(trained: TrainedSegmenter, image: torch.Tensor, device: torch.device, views: ViewConfig) -> torch.Tensor:
    """Class ids (H, W) of an image (3, H, W) uint8: resized as in training, predicted, and the ids brought back to its own size."""
    return _back(predict_views(trained.model, _ready(trained, image).to(device), views), image).long()


def predict_confidently(
    trained: TrainedSegmenter, image: torch.Tensor, device: torch.device, views: ViewConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `predict`, with the confidence (H, W) of every pixel in [-1, 1]."""
    ids, confidence = predict_with_confidence(trained.model, _ready(trained, image).to(device), views)
    return _back(ids, image).long(), _back(confidence, image).float()


def _ready(trained: TrainedSegmenter, image: torch.Tensor) -> torch.Tensor:
    """(1, 3, h, w) as the network reads it."""
    size = trained.meta["config"]["input"]["resize"]
    blank = torch.zeros(image.shape[1:], dtype=torch.int64)
    return EvalResize(None if size is None else (size[0], size[1]))(Sample(image, blank, None, "")).image[None]


def _back(found: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """(1, h, w) → (H, W) of the image, nearest, exact."""
    return F.interpolate(found.cpu()[None].double(), image.shape[1:], mode="nearest-exact")[0, 0]


def predict_tiles(
    trained: TrainedSegmenter, image: torch.Tensor, device: torch.device, views: ViewConfig, tile: tuple[int, int] | None
) -> np.ndarray:
    """As `predict`, tile by tile, in the type of label files."""
    return predict_labels(trained, image, device, views, tile).ids


def predict_labels(
    trained: TrainedSegmenter,
    image: torch.Tensor,
    device: torch.device,
    views: ViewConfig,
    tile: tuple[int, int] | None,
    *,
    threshold: float | None = None,
    with_confidence: bool = False,
) -> Labels:
    """As `predict_tiles`, with what is said of the confidence of pixels.

    Args:
        threshold: pixels with a smaller confidence are rejected; None: none are.
        with_confidence: whether the confidence is kept.
    """
    height, width = image.shape[1:]
    storage, ignored = label_storage(trained.spec.num_classes)
    ids, sure = np.empty((height, width), storage), np.empty((height, width), np.uint8) if with_confidence else None
    rows, columns = tile or (height, width)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            above, before = min(top, rows // 4), min(left, columns // 4)
            window = (..., slice(top - above, top + rows + rows // 4), slice(left - before, left + columns + columns // 4))
            here = slice(top, top + rows), slice(left, left + columns)
            inner = slice(above, above + rows), slice(before, before + columns)
            if threshold is None and sure is None:
                ids[here] = predict(trained, image[window], device, views)[inner].numpy()
                continue
            seen, confidence = predict_confidently(trained, image[window], device, views)
            if threshold is not None:
                seen = seen.masked_fill(confidence < threshold, ignored)
            ids[here] = seen[inner].numpy()
            if sure is not None:
                sure[here] = (255 * confidence.clamp(0, 1)).round()[inner].numpy()
    return Labels(ids, sure)
