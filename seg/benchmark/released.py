"""The embedding loss as the paper's released code goes about it, written anew: what the losses of this project are measured against.

FAISS finds the neighbours, their embeddings are gathered into one tensor, and autograd differentiates through it. The arithmetic is the
paper's: squared distances, and a target that is one of its own neighbours counts once.

Shapes: N images of H×W, P = N·H·W pixels, C classes, D embedding size, K neighbours.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from shared.constants import IGNORE_INDEX

Search = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def released_cross_entropy(
    pixel_embeddings: torch.Tensor,
    class_embeddings: torch.Tensor,
    label_map: torch.Tensor,
    *,
    num_neighbours: int,
    temperature: float,
    search: Search,
) -> torch.Tensor:
    """Mean cross-entropy over the nearest classes and the target (ESSNet, Eq. 6), through a tensor (P, K+1, D).

    Args:
        pixel_embeddings: (N, D, H, W) float32.
        class_embeddings: (C, D).
        label_map: (N, H, W) int64, ids in [0, C) or `IGNORE_INDEX`. Ignored pixels are searched and gathered like all others.
        num_neighbours: K.
        temperature: logit = −squared distance / temperature.
        search: (pixels (P, D), classes (C, D), K) → ids (P, K).

    Returns:
        scalar.
    """
    pixels = pixel_embeddings.permute(0, 2, 3, 1).flatten(0, 2)
    labels = label_map.flatten()
    ignored = labels == IGNORE_INDEX
    targets = labels.masked_fill(ignored, 0)
    neighbours = search(pixels.detach().contiguous(), class_embeddings.detach(), num_neighbours)
    candidates = torch.cat([targets[:, None], neighbours], dim=1)
    distances = (pixels[:, None] - class_embeddings[candidates]).square().sum(-1)
    counted_twice = F.pad(neighbours == targets[:, None], (1, 0))
    logits = (-distances / temperature).masked_fill(counted_twice, -torch.inf)
    return F.cross_entropy(logits, torch.where(ignored, IGNORE_INDEX, 0), ignore_index=IGNORE_INDEX)


def faiss_search(pixels: torch.Tensor, classes: torch.Tensor, k: int) -> torch.Tensor:
    """A flat index that is built for every call, as there: ids (P, K) of float32 vectors, on their device.

    On a GPU, what FAISS allocates is not torch's and is missing from the measured peak.
    """
    import faiss
    import faiss.contrib.torch_utils  # lets FAISS take torch tensors

    dim = classes.shape[1]
    index = faiss.GpuIndexFlatL2(faiss.StandardGpuResources(), dim) if pixels.is_cuda else faiss.IndexFlatL2(dim)
    index.add(classes)
    _, ids = index.search(pixels, k)
    return ids


def faiss_obstacle(device: torch.device) -> str:
    """Why FAISS cannot search on this device; empty where it can."""
    try:
        import faiss
    except ImportError:
        return "FAISS is not installed"
    return "this FAISS has no GPU" if device.type == "cuda" and not _gpus(faiss) else ""


def _gpus(faiss: object) -> int:
    count = getattr(faiss, "get_num_gpus", None)
    return count() if count else 0
