"""Cross-entropy over all classes without this project's losses: dense, and in chunks that the backward pass computes again.

Both have the logits −|x−μ|² / τ up to a constant per pixel, 2 x·μ/τ − |μ|²/τ, and so the value of `seg.losses.exact_cross_entropy`.

Shapes: N images of H×W, P = N·H·W pixels, p pixels of a chunk, C classes, D embedding size.
"""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from seg.neighbours import pixels_per_chunk
from shared.constants import IGNORE_INDEX


def dense_softmax(
    pixel_embeddings: torch.Tensor, class_embeddings: torch.Tensor, label_map: torch.Tensor, temperature: float
) -> torch.Tensor:
    """(N, D, H, W), (C, D) and labels (N, H, W) → mean over the valid pixels, through logits (P, C)."""
    pixels = pixel_embeddings.movedim(1, -1).flatten(0, 2)
    return _cross_entropy(pixels, class_embeddings, label_map.flatten(), temperature, "mean")


def chunked_softmax(
    pixel_embeddings: torch.Tensor, class_embeddings: torch.Tensor, label_map: torch.Tensor, temperature: float
) -> torch.Tensor:
    """The same with logits (p, C), computed once more in the backward pass: what a careful user of plain torch would write."""
    size = pixels_per_chunk(len(class_embeddings), pixel_embeddings.device)
    pixels, labels = pixel_embeddings.movedim(1, -1).flatten(0, 2), label_map.flatten()
    total = pixels.new_zeros(())
    for chunk, targets in zip(pixels.split(size), labels.split(size)):
        total = total + checkpoint(_cross_entropy, chunk, class_embeddings, targets, temperature, "sum", use_reentrant=False)
    return total / (labels != IGNORE_INDEX).sum()


def _cross_entropy(pixels: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor, temperature: float, reduction: str) -> torch.Tensor:
    logits = torch.addmm(classes.square().sum(1) / -temperature, pixels, classes.T, alpha=2 / temperature)
    return F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction=reduction)
