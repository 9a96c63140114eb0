"""The regulariser that keeps class embeddings apart (ESSNet, Eq. 7). C classes, D embedding size."""

import torch
import torch.nn.functional as F

from seg.chunks import computation_dtype
from seg.losses.objective import connected_zero
from seg.neighbours import nearest_classes


def class_separation(class_embeddings: torch.Tensor, margin: float = 0.2) -> torch.Tensor:
    """Mean over the classes of max(0, margin − distance to the nearest other class): the max-margin regulariser (ESSNet, Eq. 7).

    Needs memory for C·D numbers and one tile of the search: the gradient runs through the C nearest pairs alone.

    Args:
        class_embeddings: (C, D), of any norm; the paper's are unit vectors.
        margin: smallest wanted distance; 0.2 is an angle of 11.5° on the unit sphere.

    Returns:
        scalar in [0, margin]. Embeddings that coincide count with the full margin and get no gradient from each other; one class gives 0.
    """
    classes = class_embeddings.to(computation_dtype(class_embeddings))
    if len(classes) < 2:
        return connected_zero(classes)
    nearest, _ = nearest_classes(classes, classes, 2)
    itself = torch.arange(len(classes), device=classes.device)
    # where classes coincide, the lower id comes first, and that may be another class than itself
    nearest_other = torch.where(nearest[:, 0] == itself, nearest[:, 1], nearest[:, 0])
    distances = torch.linalg.vector_norm(classes - F.embedding(nearest_other, classes), dim=1)
    return F.relu(margin - distances).mean()
