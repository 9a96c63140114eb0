"""The embedding loss in chunks of pixels: any device, plain torch, peak memory of a few chunks.

Shapes: N images, S pixels of an image, C classes, D embedding size, K neighbours; p pixels of a chunk.
"""

import torch
import torch.nn.functional as F

from seg.neighbours import computation_dtype, nearest_classes, pixels_per_chunk
from seg.objective import LossAndGradients, Objective


def chunked_loss(
    pixels: torch.Tensor, class_embeddings: torch.Tensor, labels: torch.Tensor, objective: Objective, wants_gradients: bool
) -> LossAndGradients:
    """An `Implementation`, see there."""
    dtype = computation_dtype(pixels, class_embeddings)
    classes = class_embeddings.to(dtype)
    total = classes.new_zeros(())
    pixel_gradient = torch.zeros_like(pixels, dtype=dtype)
    class_gradient = torch.zeros_like(classes)
    num_neighbours = objective.num_neighbours or len(classes)
    size = pixels_per_chunk((num_neighbours + 1) * classes.shape[1], pixels.device)
    for image in range(len(pixels)):
        for start in range(0, labels.shape[1], size):
            chunk_labels = labels[image, start : start + size]
            rows = (chunk_labels != objective.ignore_index).nonzero().squeeze(1)
            chunk, targets = pixels[image, :, start : start + size].T[rows].to(dtype), chunk_labels[rows].long()
            neighbours, _ = nearest_classes(chunk, classes, num_neighbours, objective.search)
            candidates = torch.cat([targets[:, None], neighbours], dim=1)
            offsets = F.embedding(candidates, classes).sub_(chunk[:, None])
            counted_twice = F.pad(neighbours == targets[:, None], (1, 0))
            loss, gradients = _loss_and_gradient(offsets, counted_twice, objective)
            total += loss
            pixel_gradient[image, :, start : start + size].T[rows] = -gradients.sum(1)
            # a sum per chunk, then a sum of sums: one running float32 sum over all pixels would lose digits
            class_gradient += torch.zeros_like(classes).index_add_(0, candidates.flatten(), gradients.flatten(0, 1))
    return LossAndGradients(total / objective.num_valid, (pixel_gradient.div_(objective.num_valid), class_gradient / objective.num_valid))


def _loss_and_gradient(offsets: torch.Tensor, counted_twice: torch.Tensor, objective: Objective) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the losses of a chunk's pixels, and its gradient by the offsets (in the memory of `offsets`).

    Args:
        offsets: (p, K+1, D) candidate − pixel; the target is candidate 0.
        counted_twice: (p, K+1) bool, candidates that are left out.
    """
    squared = offsets.square().sum(-1)
    distances = squared if objective.distance == "squared" else squared.sqrt()
    gaps = ((distances[:, :1] - distances) * objective.sharpness).masked_fill_(counted_twice, -torch.inf)
    # loss = log(1 + Σ exp gap) over the others. The target's 1 stays out of the sum, and its p − 1 is minus the sum of the other p:
    # late in training both are far below the rounding error of 1.
    loss = F.softplus(gaps[:, 1:].logsumexp(1), threshold=40).sum()
    slopes = gaps.softmax(1)  # ∂loss/∂logit
    slopes[:, 0] = -slopes[:, 1:].sum(1)
    # ∂distance/∂offset = stretch · offset; the plain distance has no gradient at zero and is given zero
    stretch = 2.0 if objective.distance == "squared" else distances.reciprocal().masked_fill_(distances == 0, 0)
    return loss, offsets.mul_((slopes * -objective.sharpness * stretch)[..., None])
