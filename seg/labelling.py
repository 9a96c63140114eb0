"""An image of any size labelled with a trained network: resized as in training, at once or tile by tile.

H, W: height and width of the image.
"""

import numpy as np
import torch
import torch.nn.functional as F

from seg.inference import ViewConfig, predict_views
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


def predict(trained: TrainedSegmenter, image: torch.Tensor, device: torch.device, views: ViewConfig) -> torch.Tensor:
    """Class ids (H, W) of an image (3, H, W) uint8: resized as in training, predicted, and the ids brought back to its own size."""
    height, width = image.shape[1:]
    size = trained.meta["config"]["input"]["resize"]
    blank = torch.zeros(height, width, dtype=torch.int64)
    ready = EvalResize(None if size is None else (size[0], size[1]))(Sample(image, blank, None, "")).image
    ids = predict_views(trained.model, ready[None].to(device), views).cpu()
    return F.interpolate(ids[None].double(), (height, width), mode="nearest-exact")[0, 0].long()


def predict_tiles(
    trained: TrainedSegmenter, image: torch.Tensor, device: torch.device, views: ViewConfig, tile: tuple[int, int] | None
) -> np.ndarray:
    """As `predict`, tile by tile, in the type of label files."""
    height, width = image.shape[1:]
    ids = np.empty((height, width), label_storage(trained.spec.num_classes)[0])
    rows, columns = tile or (height, width)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            above, before = min(top, rows // 4), min(left, columns // 4)
            window = (..., slice(top - above, top + rows + rows // 4), slice(left - before, left + columns + columns // 4))
            seen = predict(trained, image[window], device, views)
            ids[top : top + rows, left : left + columns] = seen[above : above + rows, before : before + columns].numpy()
    return ids
