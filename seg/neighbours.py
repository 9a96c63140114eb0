"""The class embeddings nearest to each pixel embedding: exact, in memory free of pixels × classes.

Shapes: P pixels, C classes, D embedding size, K neighbours.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from shared.errors import InputError

SPARE_CANDIDATES = 2  # the shortlist is longer than k, so that rounding can rarely cost a pixel the slow search
_TILE_ELEMENTS = {"cpu": 2**19.5, "cuda": 2.0**25}  # a tile of scores that stays in a CPU's cache; one that fills a GPU


@torch.no_grad()
def nearest_classes(
    pixel_embeddings: torch.Tensor, class_embeddings: torch.Tensor, k: int, backend: str = "auto"
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k class embeddings with the smallest squared Euclidean distance to each pixel embedding.

    The result is exact, and equally near classes come in the order of their ids. A fast search through expanded distances
    (|x−μ|² = |x|² − 2x·μ + |μ|²) proposes a few more than k classes; their distances are then computed from the differences.
    Pixels whose k-th distance lies too near the proposal's last one for the expansion's rounding are searched directly.

    Args:
        pixel_embeddings: (P, D), of any norm; float64 is searched in float64, everything else in float32.
        class_embeddings: (C, D), of any norm.
        k: number of neighbours, 1 ≤ k ≤ C.
        backend: "torch", "faiss" (on the GPU where FAISS has one, else on the CPU), or "auto", which is "torch".

    Returns:
        ids (P, k) int64 and squared distances (P, k) ≥ 0, nearest first. Neither carries a gradient.

    Raises:
        InputError: k is not in [1, C], or there is no such backend.
    """
    require_neighbours(k, len(class_embeddings))
    if backend not in SEARCHES:
        raise InputError(f"unknown search backend {backend!r}; choose one of {', '.join(SEARCHES)}")
    dtype = computation_dtype(pixel_embeddings, class_embeddings)
    classes = class_embeddings.to(dtype).contiguous()
    ids = pixel_embeddings.new_empty((len(pixel_embeddings), k), dtype=torch.int64)
    distances = pixel_embeddings.new_empty((len(pixel_embeddings), k), dtype=dtype)
    start = 0
    for chunk in pixel_embeddings.split(pixels_per_chunk(classes.shape[1] * (k + SPARE_CANDIDATES), pixel_embeddings.device)):
        stop = start + len(chunk)
        ids[start:stop], distances[start:stop] = _search(chunk.to(dtype).contiguous(), classes, k, backend)
        start = stop
    return ids, distances


def require_neighbours(k: int, num_classes: int) -> None:
    """Refuse a number of neighbours that is not in [1, C] with an InputError."""
    if not 1 <= k <= num_classes:
        raise InputError(f"cannot take the {k} nearest of {num_classes} classes; choose a number of neighbours from 1 to {num_classes}")


def computation_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """float64 when one of the tensors is; else float32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def pixels_per_chunk(elements_per_pixel: int, device: torch.device) -> int:
    """Power of two from 64 to 2¹⁴ (CPU) or 2¹⁸ (GPU) for which a tile of that many pixels suits the device's memory."""
    tile = _TILE_ELEMENTS.get(device.type, _TILE_ELEMENTS["cpu"])
    largest = 18 if device.type == "cuda" else 14
    return 2 ** min(max(round(math.log2(tile / elements_per_pixel)), 6), largest)


def _search(pixels: torch.Tensor, classes: torch.Tensor, k: int, backend: str) -> tuple[torch.Tensor, torch.Tensor]:
    size = min(k + SPARE_CANDIDATES, len(classes))
    shortlist = SEARCHES[backend](pixels, classes, size)
    ids, distances = _rank(pixels, classes, shortlist.sort(dim=1).values)
    if size < len(classes):
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


def _torch_shortlist(pixels: torch.Tensor, classes: torch.Tensor, size: int) -> torch.Tensor:
    bias = classes.square().sum(1) / -2
    tiles = pixels.split(pixels_per_chunk(len(classes), pixels.device))
    with full_precision_matmul(pixels.device.type):
        return torch.cat([torch.addmm(bias, tile, classes.T).topk(size, dim=1, sorted=False).indices for tile in tiles])


def _faiss_shortlist(pixels: torch.Tensor, classes: torch.Tensor, size: int) -> torch.Tensor:
    import faiss
    import faiss.contrib.torch_utils  # lets FAISS take torch tensors

    pixels32, classes32 = pixels.float(), classes.float()
    if pixels.is_cuda and faiss.get_num_gpus() > 0:
        _, ids = faiss.knn_gpu(faiss.StandardGpuResources(), pixels32, classes32, size)
    else:
        _, ids = faiss.knn(pixels32.cpu(), classes32.cpu(), size)
    return ids.to(pixels.device).clamp(min=0)  # FAISS answers −1 where a pixel is not a number


@contextmanager
def full_precision_matmul(device_type: str) -> Iterator[None]:
    """Products in the operands' own precision, whatever autocast or the TF32 setting say."""
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(previous)


SEARCHES = {"auto": _torch_shortlist, "torch": _torch_shortlist, "faiss": _faiss_shortlist}
