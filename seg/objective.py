"""What the implementations of the embedding loss compute, and what they give back.

Shapes: N images, S pixels of an image, C classes, D embedding size, K neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch


@dataclass(frozen=True)
class Objective:
    """Mean over the valid pixels of −log softmax(logits)[target]; logit = −sharpness · distance.

    Attributes:
        num_neighbours: K, the softmax runs over the K classes nearest to the pixel and its target (ESSNet, Eq. 6). None: over all classes.
        distance: "squared" or "plain" Euclidean.
        sharpness: > 0.
        ignore_index: label of the pixels that are left out.
        num_valid: pixels that are not left out, ≥ 1.
        search: backend of `seg.neighbours.nearest_classes`, where an implementation uses it.
    """

    num_neighbours: int | None
    distance: str
    sharpness: float
    ignore_index: int
    num_valid: int
    search: str = "auto"


class LossAndGradients(NamedTuple):
    """A scalar loss and its gradients, in the order of the inputs; empty when they were not asked for."""

    loss: torch.Tensor
    gradients: tuple[torch.Tensor, ...] = ()


Implementation = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Objective, bool], LossAndGradients]
"""(pixels (N, D, S), class embeddings (C, D), labels (N, S), objective, whether gradients are wanted) → loss and gradients.

What an implementation may rely on: pixels have any strides and any floating dtype (a (P, D) input arrives as the (1, D, P) view of it);
labels are integers on the same device, in [0, C) or `ignore_index`, and at least one is not ignored; K, when given, is in [1, C).

What it gives: loss and gradients in `computation_dtype(pixels, class_embeddings)`. The pixel gradient has the shape and the memory order
of the pixels, and zeros where they are ignored, whatever those pixels hold (infinities and not-a-numbers too). The inputs stay as they
are. Beyond that it keeps memory for a constant number of pixel chunks, whatever N, S, C and K are.
"""
