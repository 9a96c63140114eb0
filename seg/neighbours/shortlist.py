"""The search for the nearest classes through a shortlist: a fast product proposes classes, and their distances decide (torch, FAISS).

Shapes: P pixels (p of a chunk), C classes, D embedding size, K neighbours.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from seg.chunks import full_precision_matmul, pixels_per_chunk
from shared.errors import InputError

SPARE_CANDIDATES = 2  # the shortlist is longer than k, so that rounding can rarely cost a pixel the slow search


def search_by_shortlist(
    shortlist: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor], pixels: torch.Tensor, classes: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """A `Search` from a function that proposes classes.

    Args:
        shortlist: (pixels (p, D), classes (C, D), size) → ids (p, size) of the classes with the smallest expanded distances, in any order.
    """
    ids = pixels.new_empty((len(pixels), k), dtype=torch.int64)
    distances = pixels.new_empty((len(pixels), k), dtype=classes.dtype)
    size = pixels_per_chunk(classes.shape[1] * (k + SPARE_CANDIDATES), pixels.device)
    for start in range(0, len(pixels), size):
        chunk = slice(start, start + size)
        ids[chunk], distances[chunk] = _search_chunk(shortlist, pixels[chunk].to(classes.dtype).contiguous(), classes, k)
    return ids, distances


def _search_chunk(
    shortlist: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor], pixels: torch.Tensor, classes: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    size = min(k + SPARE_CANDIDATES, len(classes))
    ids, distances = _rank(pixels, classes, shortlist(pixels, classes, size).sort(dim=1).values)
    # a list of all classes has missed none
    if size < len(classes):
        # a class outside of the list is no nearer than the last one inside, up to the rounding of the expansion
        uncertain = (distances[:, k - 1] >= distances[:, -1] - _expansion_error(pixels, classes)).nonzero().squeeze(1)
        for rows in uncertain.split(pixels_per_chunk(classes.numel(), pixels.device)):
            everything = torch.arange(len(classes), device=classes.device).expand(len(rows), -1)
            exact_ids, exact_distances = _rank(pixels[rows], classes, everything)
            ids[rows], distances[rows] = exact_ids[:, :size], exact_distances[:, :size]
    return ids[:, :k], distances[:, :k]


def _rank(pixels: torch.Tensor, classes: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sort candidates (P, n), given in the order of their ids, by distance; the sort is stable, so ties keep that order."""
    distances = F.embedding(ids, classes).sub_(pixels[:, None]).square_().sum(-1)
    distances, order = distances.sort(dim=1, stable=True)
    return ids.gather(1, order), distances


def _expansion_error(pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """(P,) bound on how far two expanded distances, compared with each other, may be wrong.

    With unit roundoff ε/2 an expanded distance of D-vectors is off by less than (D + 4)·ε/2·(|x|+|μ|)²; the factor 4 covers two of
    them and leaves as much again. ε is always float32's, because FAISS searches in float32 whatever it is given.
    """
    reach = pixels.norm(dim=1) + classes.norm(dim=1).max()
    return 4 * (pixels.shape[1] + 4) * torch.finfo(torch.float32).eps * reach.square()


def torch_shortlist(pixels: torch.Tensor, classes: torch.Tensor, size: int) -> torch.Tensor:
    """See `search_by_shortlist`: a product and a selection."""
    # x·μ − |μ|²/2 puts classes in the order of their distances: |x|² is the same for all
    bias = classes.square().sum(1) / -2
    tiles = pixels.split(pixels_per_chunk(len(classes), pixels.device))
    with full_precision_matmul(pixels.device.type):
        # not sorted: `_rank` sorts by exact distances
        return torch.cat([torch.addmm(bias, tile, classes.T).topk(size, dim=1, sorted=False).indices for tile in tiles])


@cache
def faiss_resources(device: torch.device) -> Any:
    """FAISS's memory on a GPU: more than a gigabyte, which takes longer to get than a chunk takes to be searched."""
    import faiss

    return faiss.StandardGpuResources()


def _faiss_shortlist(pixels: torch.Tensor, classes: torch.Tensor, size: int) -> torch.Tensor:
    try:
        import faiss
        import faiss.contrib.torch_utils  # lets FAISS take torch tensors
    except ImportError as error:
        raise InputError(f"'faiss' cannot be loaded ({error}); install faiss-cpu, or choose another search backend") from error

    pixels32, classes32 = pixels.float(), classes.float()
    if pixels.is_cuda and faiss.get_num_gpus() > 0:
        _, ids = faiss.knn_gpu(faiss_resources(pixels.device), pixels32, classes32, size)
    else:
        if pixels.is_cuda:
            warnings.warn("this FAISS is without a GPU (faiss-gpu has one): it searches on the CPU", stacklevel=2)
        _, ids = faiss.knn(pixels32.cpu(), classes32.cpu(), size)
    return ids.to(pixels.device).clamp(min=0)  # FAISS answers −1 where a pixel is not a number
