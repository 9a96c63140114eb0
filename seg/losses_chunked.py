"""The embedding loss in chunks of pixels: any device, plain torch, peak memory of a few chunks.

Shapes: N images, S pixels of an image, C classes, D embedding size, K neighbours; v valid pixels of a chunk.
"""

import torch
import torch.nn.functional as F

from seg.chunks import sum_over_pixels
from seg.losses_streamed import streamed_loss
from seg.neighbours import computation_dtype, full_precision_matmul, nearest_classes, pixels_per_chunk
from seg.objective import LossAndGradients, Objective


def chunked_loss(
    pixels: torch.Tensor, class_embeddings: torch.Tensor, labels: torch.Tensor, objective: Objective, wants_gradients: bool
) -> LossAndGradients:
    """An `Implementation`, see there."""
    if objective.num_neighbours is None:
        return streamed_loss(pixels, class_embeddings, labels, objective, wants_gradients)
    num_neighbours, dtype = objective.num_neighbours, computation_dtype(pixels, class_embeddings)
    classes = class_embeddings.to(dtype)
    gradient = torch.empty_like(pixels, dtype=dtype) if wants_gradients else None
    size = pixels_per_chunk(2 * (num_neighbours + 1) * classes.shape[1], pixels.device)  # of several tensors (K+1, v, D)
    with full_precision_matmul(pixels.device.type):  # here, as the setting is one for all threads
        sums = sum_over_pixels(
            lambda _: _Sums(classes, num_neighbours, objective, wants_gradients), pixels, labels, objective.ignore_index, size, gradient
        )
    loss = (sums.loss / objective.total_weight).to(dtype)
    return LossAndGradients(loss) if gradient is None else LossAndGradients(loss, (gradient, sums.classes))


class _Sums:
    """Loss and class gradient of some pixels, see `seg.chunks.PixelSums`."""

    def __init__(self, classes: torch.Tensor, num_neighbours: int, objective: Objective, wants_gradients: bool) -> None:
        self._embeddings, self._num_neighbours, self._objective, self._wants_gradients = classes, num_neighbours, objective, wants_gradients
        self.loss = classes.new_zeros((), dtype=torch.float64)
        self.classes = torch.zeros_like(classes) if wants_gradients else classes.new_zeros(())

    def add(self, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
        chunk = pixels.T.to(self._embeddings.dtype).contiguous()
        neighbours, squared = nearest_classes(chunk, self._embeddings, self._num_neighbours, self._objective.search)
        # (K+1, v), the target first: a sum over the candidates adds whole rows
        candidates = torch.cat([targets[None], neighbours.T])
        counted_twice = candidates[1:] == targets
        to_target = F.embedding(targets, self._embeddings).sub_(chunk).square_().sum(1)
        squared = torch.cat([to_target[None], squared.T])
        is_squared = self._objective.distance == "squared"
        distances = squared if is_squared else squared.sqrt()
        gaps = (distances[0] - distances).mul_(self._objective.sharpness)
        gaps[1:].masked_fill_(counted_twice, -torch.inf)
        # loss = log(1 + Σ exp gap) over the others. The target's 1 stays out of the sum, and its p − 1 is minus the sum of the other p:
        # late in training both are far below the rounding error of 1.
        weights = self._objective.weights_of(targets)
        self.loss += F.softplus(gaps[1:].logsumexp(0), threshold=40).mul_(weights).sum(dtype=torch.float64)
        if not self._wants_gradients:
            return None
        slopes = gaps.softmax(0).mul_(weights * (-self._objective.sharpness / self._objective.total_weight))  # ∂loss/∂distance
        slopes[0] = -slopes[1:].sum(0)
        # ∂distance/∂offset = stretch · offset; the plain distance has no gradient at zero and is given zero
        slopes.mul_(2 if is_squared else distances.reciprocal().masked_fill_(distances == 0, 0))
        by_offset = F.embedding(candidates, self._embeddings).sub_(chunk).mul_(slopes[..., None])  # (K+1, v, D), offset = candidate − pixel
        # a sum per chunk, then a sum of sums: one running float32 sum over all pixels would lose digits
        self.classes += torch.zeros_like(self._embeddings).index_add_(0, candidates.flatten(), by_offset.flatten(0, 1))
        return by_offset.sum(0).neg_().T
