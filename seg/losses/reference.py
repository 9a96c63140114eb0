"""The embedding loss, written to be read: what every other implementation must equal.

Shapes: N images, S pixels of an image, V valid pixels, C classes, D embedding size, K neighbours.
"""

import torch
import torch.nn.functional as F

from seg.chunks import computation_dtype
from seg.losses.objective import Objective
from seg.neighbours import nearest_classes


def reference_cross_entropy(
    pixels: torch.Tensor, class_embeddings: torch.Tensor, labels: torch.Tensor, objective: Objective
) -> torch.Tensor:
    """Weighted mean of −log p(target) over the valid pixels (ESSNet, Eq. 6).

    Memory: several times V·(K+1)·D numbers, or V·C·D over all classes.

    Args:
        pixels: (N, D, S).
        class_embeddings: (C, D).
        labels: (N, S), in [0, C) or ignored.
        objective: what is computed.

    Returns:
        scalar, float64 for float64 input and else float32.
    """
    dtype = computation_dtype(pixels, class_embeddings)
    classes, valid = class_embeddings.to(dtype), labels != objective.ignore_index
    valid_pixels, targets = pixels.movedim(1, -1)[valid].to(dtype), labels[valid].long()
    if objective.num_neighbours is None:
        neighbours = torch.arange(len(classes), device=classes.device).expand(len(targets), -1)
    else:
        neighbours, _ = nearest_classes(valid_pixels, classes, objective.num_neighbours, objective.search)
    candidates = torch.cat([targets[:, None], neighbours], dim=1)
    residuals = valid_pixels[:, None] - F.embedding(candidates, classes)
    # vector_norm has gradient zero at zero, a square root of a sum has none
    squared = objective.distance == "squared"
    distances = residuals.square().sum(-1) if squared else torch.linalg.vector_norm(residuals, dim=-1)
    counted_twice = F.pad(neighbours == targets[:, None], (1, 0))
    logits = (-objective.sharpness * distances).masked_fill(counted_twice, -torch.inf)
    losses = F.cross_entropy(logits, torch.zeros_like(targets), reduction="none")
    return (losses * objective.weights_of(targets)).sum() / objective.total_weight
