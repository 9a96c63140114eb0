"""Prediction from one or several views of an image (sliding windows, scales, mirrored), and the scores of a network on a data set.

The views meet on the stride-4 grid of the features, where their votes are averaged: unit vectors of the embedding head, probabilities of
the softmax head. What is averaged is as large as the features of one view, so with embeddings the memory is free of the number of classes.

Shapes: N images of H×W, F features (D of pixel embeddings, C of class scores), h×w positions of the features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from seg.model import Segmenter
from seg.networks.upsampling import output_bands, predict_in_bands, resize
from shared.data.loader import BatchLoader
from shared.data.spec import DatasetSpec
from shared.data.transforms.steps import UNIT_GREY
from shared.distributed import gather
from shared.errors import InputError
from shared.files.json_file import write_json
from shared.joint_norm import merge_running_statistics
from shared.metrics import ConfusionMatrix
from shared.shapes import shape_obstacle

STRIDE = 4  # pixels of a position of the features


@dataclass
class ViewConfig:
    """Views of each image whose predictions are averaged."""

    window: tuple[int, int] | None = None
    """(height, width) in pixels, multiples of 4, of windows that slide over the image. Null: the whole image at once."""
    overlap: float = 1 / 3
    """Least share of a window that the next one sees again."""
    scales: list[float] = field(default_factory=lambda: [1.0])
    """Factors of the image size."""
    flip: bool = False
    """Also look at the mirrored image."""

    def __post_init__(self) -> None:
        if self.window is not None and any(side < STRIDE or side % STRIDE for side in self.window):
            nearest = [max(round(side / STRIDE), 1) * STRIDE for side in self.window]
            raise InputError(f"views.window is {list(self.window)}; both sides must be multiples of {STRIDE}, such as {nearest}")
        if not 0 <= self.overlap < 1:
            raise InputError(f"views.overlap is {self.overlap}; it must be at least 0 and below 1")
        if not self.scales or min(self.scales) <= 0:
            raise InputError(f"views.scales is {self.scales}; one or more factors above 0 were expected")

    @property
    def single(self) -> bool:
        """Whether the image as it is is the only view."""
        return self.window is None and not self.flip and list(self.scales) == [1.0]


@torch.no_grad()
def predict_views(model: Segmenter, images: torch.Tensor, config: ViewConfig) -> torch.Tensor:
    """Images (N, 3, H, W) in [0, 1] → class ids (N, H, W) int64, from all views. The mode (train or eval) is the caller's."""
    features, size = _averaged(model, images, config)
    return predict_in_bands(model.classify, features, size)[:, : images.shape[2], : images.shape[3]]


@torch.no_grad()
def predict_with_confidence(model: Segmenter, images: torch.Tensor, config: ViewConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """What `predict_views` gives, and how sure each pixel is of its class, (N, H, W) float32; see `Segmenter.confidence`."""
    features, size = _averaged(model, images, config)
    ids = torch.empty((len(images), *size), dtype=torch.int64, device=images.device)
    confidence = torch.empty(ids.shape, device=images.device)
    for rows, outputs in output_bands(features, size):
        ids[:, rows] = model.classify(outputs)
        confidence[:, rows] = model.confidence(outputs, ids[:, rows], voted=not config.single)
    return ids[:, : images.shape[2], : images.shape[3]], confidence[:, : images.shape[2], : images.shape[3]]


def _averaged(model: Segmenter, images: torch.Tensor, config: ViewConfig) -> tuple[torch.Tensor, torch.Size]:
    """The features of the only view, or the votes of all, and the (height, width) that they are upsampled to: at least that of the
    images."""
    if config.single:
        return _features(model, images), images.shape[2:]
    # windows begin at positions of the grid, so that the image must be made of whole ones
    images = F.pad(images, (0, -images.shape[3] % STRIDE, 0, -images.shape[2] % STRIDE), value=UNIT_GREY)
    grid = images.shape[2] // STRIDE, images.shape[3] // STRIDE
    votes: torch.Tensor | None = None
    for scale, mirrored in product(config.scales, (False, True) if config.flip else (False,)):
        view = _scaled(images, scale)
        vote = _vote(model, view.flip(3) if mirrored else view, config)
        vote = resize(vote.flip(3) if mirrored else vote, grid)
        votes = vote if votes is None else votes.add_(vote)
    assert votes is not None, "at least one scale"
    return votes, images.shape[2:]


def _scaled(images: torch.Tensor, scale: float) -> torch.Tensor:
    """The images at a scale, in whole positions of the grid."""
    size = tuple(max(round(side * scale / STRIDE), 1) * STRIDE for side in images.shape[2:])
    return images if size == images.shape[2:] else F.interpolate(images, size, mode="bilinear", antialias=True)


def _vote(model: Segmenter, images: torch.Tensor, config: ViewConfig) -> torch.Tensor:
    """(N, F, h, w) votes on one view, windows averaged."""
    height, width = images.shape[2:]
    if config.window is None or (config.window[0] >= height and config.window[1] >= width):
        return model.votes(_features(model, images))
    total: torch.Tensor | None = None
    count = images.new_zeros(height // STRIDE, width // STRIDE)
    for top, left in window_corners((height, width), config.window, config.overlap):
        bottom, right = min(top + config.window[0], height), min(left + config.window[1], width)
        vote = model.votes(_features(model, images[:, :, top:bottom, left:right]))
        if total is None:
            total = vote.new_zeros(*vote.shape[:2], *count.shape)
        place = (..., slice(top // STRIDE, bottom // STRIDE), slice(left // STRIDE, right // STRIDE))
        total[place] += vote
        count[place] += 1
    assert total is not None, "at least one window"
    return total.div_(count)


def _features(model: Segmenter, images: torch.Tensor) -> torch.Tensor:
    """The stride-4 features.

    Raises:
        InputError: the images are too small for the architecture.
    """
    try:
        return model(images, upsample=False)
    except (RuntimeError, ValueError) as error:
        obstacle = shape_obstacle(model, images.shape, training=model.training, upsample=False)
        if obstacle is None:
            raise
        height, width = images.shape[2:]
        raise InputError(f"the network cannot look at images of {height}x{width} (height x width): {obstacle}") from error


def window_corners(size: tuple[int, int], window: tuple[int, int], overlap: float) -> Iterator[tuple[int, int]]:
    """(top, left) in pixels, on the grid, of windows that cover an image of that (height, width), all of the image's parts alike."""
    tops, lefts = (_starts(side, length, overlap) for side, length in zip(size, window))
    return product(tops, lefts)


def _starts(side: int, length: int, overlap: float) -> list[int]:
    """As few starts as the overlap allows, evenly spread, the last window flush with the end."""
    room = max(side - length, 0) // STRIDE
    step = max(int(length * (1 - overlap)) // STRIDE, 1)
    steps = -(-room // step)
    return [STRIDE * (room * i // steps) for i in range(steps + 1)] if steps else [0]


@torch.inference_mode()
def evaluate(
    model: Segmenter, loader: BatchLoader, num_classes: int, device: torch.device, views: ViewConfig | None = None
) -> ConfusionMatrix:
    """Predict every batch and count. The model is left in the mode it came in.

    Args:
        views: of each image; None: the image as it is.

    Returns:
        Confusion matrix over all pixels that are not ignored, of the loaders of all processes.
    """
    mine = ConfusionMatrix(num_classes)
    merge_running_statistics(model)
    was_training = model.training
    model.eval()
    for batch in loader.with_progress("evaluate"):
        batch = batch.to(device)
        mine.update(predict_views(model, batch.images, views or ViewConfig()), batch.label_maps)
    model.train(was_training)
    return ConfusionMatrix.total(gather(mine.cpu()))


def summary(matrix: ConfusionMatrix) -> dict[str, float]:
    """The four figures of the papers, each in [0, 1]."""
    return {
        "miou": matrix.miou(),
        "pixel_accuracy": matrix.pixel_accuracy(),
        "mean_accuracy": matrix.mean_accuracy(),
        "fwiou": matrix.fwiou(),
    }


FIGURES_OF_UNSEEN = {"seen_miou": "mIoU seen", "unseen_miou": "unseen", "harmonic_mean": "harmonic mean"}


def seen_and_unseen(matrix: ConfusionMatrix, spec: DatasetSpec, unseen: Sequence[str]) -> dict[str, Any]:
    """Mean IoU of the classes of the training and of those that it has not seen, and the harmonic mean of the two, in [0, 1]."""
    iou, is_unseen = matrix.iou(), torch.tensor([name in unseen for name in spec.class_names])
    seen_miou, unseen_miou = (iou[group].nanmean().item() for group in (~is_unseen, is_unseen))
    total = seen_miou + unseen_miou
    harmonic_mean = 0.0 if total == 0 else 2 * seen_miou * unseen_miou / total
    return {"classes": list(unseen), "seen_miou": seen_miou, "unseen_miou": unseen_miou, "harmonic_mean": harmonic_mean}


def class_table(matrix: ConfusionMatrix, spec: DatasetSpec) -> str:
    """One line per class: share of the labelled pixels and IoU, both in percent; absent classes show a dash."""
    pixels = matrix.labelled_pixels.double().cpu()
    width = max(len(name) for name in spec.class_names)
    rows = [f"{'class':<{width}}  pixels %   IoU %"]
    for name, share, iou in zip(spec.class_names, pixels / pixels.sum(), matrix.iou().tolist()):
        rows.append(f"{name:<{width}}  {100 * float(share):8.3f}  {'      –' if np.isnan(iou) else f'{100 * iou:7.2f}'}")
    return "\n".join(rows)


def write_evaluation(path: Path, matrix: ConfusionMatrix, spec: DatasetSpec, about: dict[str, Any]) -> None:
    """JSON with the summary, IoU (null where absent) and labelled pixels of each class, and where the figures come from."""
    iou = dict(zip(spec.class_names, matrix.iou().tolist()))
    pixels = dict(zip(spec.class_names, matrix.labelled_pixels.tolist()))
    figures = summary(matrix) | {"labelled_pixels": matrix.num_pixels, "iou": iou, "class_pixels": pixels}
    write_json(path, about | figures)
