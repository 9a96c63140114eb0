"""The loss over nearest classes, written to be read: what every other implementation must equal.

Shapes: P pixels, V valid pixels, C classes, D embedding size, K neighbours.
"""

import torch
import torch.nn.functional as F

from seg.neighbours import computation_dtype, nearest_classes


def reference_cross_entropy(
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
    """Mean of −log p(target) over the valid pixels (ESSNet, Eq. 6). Memory: several times V·(K+1)·D numbers.

    Args:
        pixels: (P, D).
        class_embeddings: (C, D).
        rows: (V,) positions of the valid pixels in `pixels`, V ≥ 1.
        targets: (V,) their classes in [0, C).
        num_neighbours: k in [1, C].
        distance: "squared" or "plain" Euclidean.
        sharpness: > 0; logit = −sharpness · distance.
        search: backend of `nearest_classes`.

    Returns:
        scalar, float64 for float64 input and else float32.
    """
    dtype = computation_dtype(pixels, class_embeddings)
    valid_pixels, classes = pixels[rows].to(dtype), class_embeddings.to(dtype)
    neighbours, _ = nearest_classes(valid_pixels, classes, num_neighbours, search)
    candidates = torch.cat([targets[:, None], neighbours], dim=1)
    residuals = valid_pixels[:, None] - F.embedding(candidates, classes)
    # vector_norm has gradient zero at zero, a square root of a sum has none
    distances = residuals.square().sum(-1) if distance == "squared" else torch.linalg.vector_norm(residuals, dim=-1)
    counted_twice = F.pad(neighbours == targets[:, None], (1, 0))
    logits = (-sharpness * distances).masked_fill(counted_twice, -torch.inf)
    return F.cross_entropy(logits, torch.zeros_like(targets))
