"""Score a segmentation network on a data set."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seg.model import EmbeddingSegmenter, SoftmaxSegmenter
from seg.views import ViewConfig, predict_views
from shared.data.loader import BatchLoader
from shared.data.spec import DatasetSpec
from shared.distributed import gather
from shared.files.atomic import write_text
from shared.joint_norm import merge_running_statistics
from shared.metrics import ConfusionMatrix
from shared.run.training import progress

Segmenter = EmbeddingSegmenter | SoftmaxSegmenter


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
    for batch in progress(loader, "evaluate", total=len(loader), unit="batch"):
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
    iou = {name: None if np.isnan(value) else value for name, value in zip(spec.class_names, matrix.iou().tolist())}
    pixels = dict(zip(spec.class_names, matrix.labelled_pixels.tolist()))
    figures = summary(matrix) | {"labelled_pixels": matrix.num_pixels, "iou": iou, "class_pixels": pixels}
    write_text(path, json.dumps(about | figures, indent=2))
