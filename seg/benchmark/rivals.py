"""What the losses are measured against: the way of the paper's released code, and cross-entropy over all classes, dense and recomputed.

The released way, written anew: FAISS finds the neighbours, their embeddings are gathered into one tensor, and autograd differentiates
through it. The arithmetic is the paper's: squared distances, and a target that is one of its own neighbours counts once.

The others have the logits −|x−μ|² / τ up to a constant per pixel, 2 x·μ/τ − |μ|²/τ, and so the value of `seg.losses.exact_cross_entropy`.

Shapes: N images of H×W, P = N·H·W pixels, p pixels of a chunk, C classes, D embedding size, K neighbours.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from seg.chunks import pixels_per_chunk
from seg.neighbours.shortlist import faiss_resources
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

    faiss.omp_set_num_threads(torch.get_num_threads())
    dim = classes.shape[1]
    index = faiss.GpuIndexFlatL2(faiss_resources(pixels.device), dim) if pixels.is_cuda else faiss.IndexFlatL2(dim)
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
