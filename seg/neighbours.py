"""The class embeddings nearest to each pixel embedding: exact, in memory free of pixels × classes.

Shapes: N images, S pixels of an image, P pixels, C classes, D embedding size, K neighbours.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F

from seg.neighbours_numba import numba_best_classes, numba_obstacle, numba_search
from seg.neighbours_triton import triton_shortlist
from shared.errors import InputError

SPARE_CANDIDATES = 2  # the shortlist is longer than k, so that rounding can rarely cost a pixel the slow search
_TILE_ELEMENTS = {"cpu": 2**19.5, "cuda": 2.0**25}  # a tile of scores that stays in a CPU's cache; one that fills a GPU
MOST_COMPILED_NEIGHBOURS = 128  # above, plain torch selects them faster than the compiled search, which keeps them sorted

Search = Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]
"""(pixels (P, D) of any floating dtype, P ≥ 1; classes (C, D) in the dtype of the computation; k) → what `nearest_classes` returns."""


@torch.no_grad()
def nearest_classes(
    pixel_embeddings: torch.Tensor, class_embeddings: torch.Tensor, k: int, backend: str = "auto"
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k class embeddings with the smallest squared Euclidean distance to each pixel embedding.

    The result is exact, and equally near classes come in the order of their ids. A fast search through expanded distances
    (|x−μ|² = |x|² − 2x·μ + |μ|²) proposes classes; their distances are then computed from the differences.
    Pixels whose k-th distance lies too near the next one for the expansion's rounding are searched directly.

    Args:
        pixel_embeddings: (P, D), of any norm; float64 is searched in float64, everything else in float32.
        class_embeddings: (C, D), of any norm.
        k: number of neighbours, 1 ≤ k ≤ C.
        backend: "torch", "faiss" (on the GPU where FAISS has one, else on the CPU), "numba" (compiled, CPU),
            "triton" (CUDA), or "auto": "numba" on a CPU where it can be loaded, else "torch".

    Returns:
        ids (P, k) int64 and squared distances (P, k) ≥ 0, nearest first. Neither carries a gradient.

    Raises:
        InputError: k is not in [1, C], there is no such backend, or its package is missing.
    """
    require_neighbours(k, len(class_embeddings))
    if backend not in SEARCHES:
        raise InputError(f"unknown search backend {backend!r}; choose one of {', '.join(SEARCHES)}")
    dtype = computation_dtype(pixel_embeddings, class_embeddings)
    if len(pixel_embeddings) == 0:
        return pixel_embeddings.new_empty((0, k), dtype=torch.int64), pixel_embeddings.new_empty((0, k), dtype=dtype)
    return SEARCHES[backend](pixel_embeddings.detach(), class_embeddings.detach().to(dtype).contiguous(), k)


@torch.no_grad()
def best_classes(pixels: torch.Tensor, class_embeddings: torch.Tensor) -> torch.Tensor:
    """The class with the largest x·μ of each pixel, the lowest id among equals: the nearest one, where all classes have unit norm.

    Args:
        pixels: (N, D, S), of any strides and norm.
        class_embeddings: (C, D).

    Returns:
        (N, S) int64, in memory free of pixels × classes.
    """
    dtype = computation_dtype(pixels, class_embeddings)
    pixels, classes = pixels.detach(), class_embeddings.detach().to(dtype).contiguous()
    if pixels.device.type == "cpu" and pixels.numel() and not numba_obstacle():
        return numba_best_classes(pixels, classes)
    ids = torch.empty(len(pixels), pixels.shape[2], dtype=torch.int64, device=pixels.device)
    size = pixels_per_chunk(len(classes), pixels.device)
    with full_precision_matmul(pixels.device.type):
        for image, image_ids in zip(pixels, ids):
            for chunk, chunk_ids in zip(image.split(size, dim=1), image_ids.split(size)):
                torch.argmax(chunk.T.to(dtype) @ classes.T, dim=1, out=chunk_ids)
    return ids


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


def torch_shortlist(pixels: torch.Tensor, classes: torch.Tensor, size: int) -> torch.Tensor:
    """See `search_by_shortlist`: a product and a selection."""
    bias = classes.square().sum(1) / -2
    tiles = pixels.split(pixels_per_chunk(len(classes), pixels.device))
    with full_precision_matmul(pixels.device.type):
        return torch.cat([torch.addmm(bias, tile, classes.T).topk(size, dim=1, sorted=False).indices for tile in tiles])


def _faiss_shortlist(pixels: torch.Tensor, classes: torch.Tensor, size: int) -> torch.Tensor:
    try:
        import faiss
        import faiss.contrib.torch_utils  # lets FAISS take torch tensors
    except ImportError as error:
        raise InputError(f"'faiss' cannot be loaded ({error}); install faiss-cpu, or choose another search backend") from error

    pixels32, classes32 = pixels.float(), classes.float()
    if pixels.is_cuda and faiss.get_num_gpus() > 0:
        _, ids = faiss.knn_gpu(faiss.StandardGpuResources(), pixels32, classes32, size)
    else:
        if pixels.is_cuda:
            warnings.warn("this FAISS is without a GPU (faiss-gpu has one): it searches on the CPU", stacklevel=2)
        _, ids = faiss.knn(pixels32.cpu(), classes32.cpu(), size)
    return ids.to(pixels.device).clamp(min=0)  # FAISS answers −1 where a pixel is not a number


def _fastest_search(pixels: torch.Tensor, classes: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    compiled = pixels.device.type == "cpu" and k <= MOST_COMPILED_NEIGHBOURS and not numba_obstacle()
    return SEARCHES["numba" if compiled else "torch"](pixels, classes, k)


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


SEARCHES: dict[str, Search] = {
    "auto": _fastest_search,
    "torch": partial(search_by_shortlist, torch_shortlist),
    "faiss": partial(search_by_shortlist, _faiss_shortlist),
    "numba": numba_search,
    "triton": partial(search_by_shortlist, triton_shortlist),
}
