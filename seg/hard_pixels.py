"""Online hard example mining: of a batch, only the pixels with the largest loss count.

The loss of every pixel is found beforehand, without gradients, in chunks whose memory does not grow with pixels × classes. What follows is
the ordinary loss of a label map in which the easier pixels are ignored, so that it works with every implementation.

Shapes: N images, F channels of an output, H×W pixels, C classes; p pixels of a chunk.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from seg.bands import upsample_rows
from seg.config import LossConfig
from seg.evaluation import Segmenter
from seg.model import EmbeddingSegmenter
from seg.neighbours import computation_dtype, full_precision_matmul, pixels_per_chunk
from shared.constants import IGNORE_INDEX

Logits = Callable[[torch.Tensor], torch.Tensor]
"""Outputs of pixels (p, F) → their logits (p, C)."""


def keep_hardest(label_map: torch.Tensor, losses: torch.Tensor, fraction: float) -> torch.Tensor:
    """The label map in which all but the `fraction` of valid pixels with the largest losses are ignored.

    Args:
        label_map, losses: of the same shape.
        fraction: in (0, 1]; at least one valid pixel stays. Of equal losses the first in memory stay.
    """
    valid = label_map.flatten() != IGNORE_INDEX
    count = math.ceil(fraction * int(valid.sum()))
    order = losses.flatten().masked_fill(~valid, -torch.inf).argsort(descending=True, stable=True)
    kept = label_map.flatten().clone()
    kept[order[count:]] = IGNORE_INDEX
    return kept.view(label_map.shape)


@torch.no_grad()
def losses_of_pixels(model: Segmenter, output: torch.Tensor, label_map: torch.Tensor, config: LossConfig) -> torch.Tensor:
    """Cross-entropy over all classes of every pixel.

    Args:
        output: of the network, upsampled where there are no `band_rows`; (N, F, ·, ·).
        label_map: (N, H, W), ids in [0, C) or `IGNORE_INDEX`.

    Returns:
        (N, H, W) float32 ≥ 0, and 0 where the label is ignored.
    """
    logits = _class_logits(model.class_embeddings, config) if isinstance(model, EmbeddingSegmenter) else _themselves
    num_classes = len(model.class_embeddings) if isinstance(model, EmbeddingSegmenter) else output.shape[1]
    height, width = label_map.shape[1:]
    rows, size = config.band_rows or height, pixels_per_chunk(num_classes, output.device)
    losses = torch.zeros(label_map.shape, device=output.device)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        outputs = output if config.band_rows is None else model.finish(upsample_rows(output, (height, width), top, bottom))
        outputs = outputs.to(computation_dtype(outputs)).flatten(2)
        for pixels, targets, found in zip(outputs, label_map[:, top:bottom].flatten(1).long(), losses[:, top:bottom]):
            parts = [
                F.cross_entropy(logits(some.T), labels, ignore_index=IGNORE_INDEX, reduction="none")
                for some, labels in zip(pixels.split(size, dim=1), targets.split(size))
            ]
            found.copy_(torch.cat(parts).view(found.shape))
    return losses


def _class_logits(class_embeddings: torch.Tensor, config: LossConfig) -> Logits:
    """The logits of pixel embeddings, up to a number per pixel, which no softmax sees."""
    classes = class_embeddings.detach().to(computation_dtype(class_embeddings))

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        with full_precision_matmul(pixels.device.type):
            if config.distance == "plain":
                return torch.cdist(pixels, classes).mul_(-config.scale)
            return torch.addmm(classes.square().sum(1), pixels, classes.T, beta=-1, alpha=2).div_(config.temperature)

    return logits


def _themselves(scores: torch.Tensor) -> torch.Tensor:
    return scores
