"""The loss over nearest classes in chunks of pixels: any device, plain torch, peak memory of a few chunks.

Shapes: P pixels, V valid pixels, C classes, D embedding size, K neighbours; p pixels of a chunk.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from seg.neighbours import computation_dtype, nearest_classes, pixels_per_chunk


def chunked_cross_entropy(
    pixels: torch.Tensor,
    class_embeddings: torch.Tensor,
    rows: torch.Tensor,
    targets: torch.Tensor,
    *,
    num_neighbours: int,
    distance: str,
    sharpness: float,
    search: str,
) -> torch.Tensor:
    """`reference_cross_entropy`, with the same arguments, value and gradients; keeps (P + C)·D numbers for the backward pass."""
    loss: torch.Tensor = _ChunkedCrossEntropy.apply(pixels, class_embeddings, rows, targets, num_neighbours, distance, sharpness, search)
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The forward pass makes both gradients chunk by chunk; the backward pass multiplies them by the gradient of the result."""

    @staticmethod
    def forward(
        ctx: Any,
        pixels: torch.Tensor,
        class_embeddings: torch.Tensor,
        rows: torch.Tensor,
        targets: torch.Tensor,
        num_neighbours: int,
        distance: str,
        sharpness: float,
        search: str,
    ) -> torch.Tensor:
        dtype = computation_dtype(pixels, class_embeddings)
        classes = class_embeddings.to(dtype)
        total = classes.new_zeros(())
        pixel_gradient = torch.zeros_like(pixels, dtype=dtype)
        class_gradient = torch.zeros_like(classes)
        size = pixels_per_chunk((num_neighbours + 1) * classes.shape[1], pixels.device)
        for chunk_rows, chunk_targets in zip(rows.split(size), targets.split(size)):
            chunk = pixels[chunk_rows].to(dtype)
            neighbours, _ = nearest_classes(chunk, classes, num_neighbours, search)
            candidates = torch.cat([chunk_targets[:, None], neighbours], dim=1)
            offsets = F.embedding(candidates, classes).sub_(chunk[:, None])
            counted_twice = F.pad(neighbours == chunk_targets[:, None], (1, 0))
            loss, gradients = _loss_and_gradient(offsets, counted_twice, distance, sharpness)
            total += loss
            pixel_gradient[chunk_rows] = -gradients.sum(1)
            # a sum per chunk, then a sum of sums: one running float32 sum over all pixels would lose digits
            class_gradient += torch.zeros_like(classes).index_add_(0, candidates.flatten(), gradients.flatten(0, 1))
        ctx.save_for_backward(pixel_gradient, class_gradient)
        ctx.num_valid, ctx.dtypes = len(rows), (pixels.dtype, class_embeddings.dtype)
        return total / len(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        factor = grad_output / ctx.num_valid
        pixel_gradient, class_gradient = (
            (gradient * factor).to(dtype) if needed else None
            for gradient, dtype, needed in zip(ctx.saved_tensors, ctx.dtypes, ctx.needs_input_grad)
        )
        return pixel_gradient, class_gradient, None, None, None, None, None, None


def _loss_and_gradient(
    offsets: torch.Tensor, counted_twice: torch.Tensor, distance: str, sharpness: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of the losses of a chunk's pixels, and its gradient by the offsets (in the memory of `offsets`).

    Args:
        offsets: (p, K+1, D) candidate − pixel; the target is candidate 0.
        counted_twice: (p, K+1) bool, candidates that are left out.
        distance, sharpness: logit = −sharpness · distance.
    """
    squared = offsets.square().sum(-1)
    distances = squared if distance == "squared" else squared.sqrt()
    gaps = ((distances[:, :1] - distances) * sharpness).masked_fill_(counted_twice, -torch.inf)
    # loss = log(1 + Σ exp gap) over the others. The target's 1 stays out of the sum, and its p − 1 is minus the sum of the other p:
    # late in training both are far below the rounding error of 1.
    loss = F.softplus(gaps[:, 1:].logsumexp(1), threshold=40).sum()
    slopes = gaps.softmax(1)  # ∂loss/∂logit
    slopes[:, 0] = -slopes[:, 1:].sum(1)
    # ∂distance/∂offset = stretch · offset; the plain distance has no gradient at zero and is given zero
    stretch = 2.0 if distance == "squared" else distances.reciprocal().masked_fill_(distances == 0, 0)
    return loss, offsets.mul_((slopes * -sharpness * stretch)[..., None])
