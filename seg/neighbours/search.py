"""The class embeddings nearest to each pixel embedding: exact, in memory free of pixels × classes.

Shapes: N images, S pixels of an image, P pixels, C classes, D embedding size, K neighbours.
"""

from collections.abc import Callable
from functools import partial

import torch

from seg.chunks import computation_dtype, full_precision_matmul, pixels_per_chunk
from seg.neighbours.numba import numba_best_classes, numba_obstacle, numba_search
from seg.neighbours.shortlist import _faiss_shortlist, search_by_shortlist, torch_shortlist
from seg.neighbours.triton import triton_shortlist
from shared.errors import InputError, choose

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
    choose("search backend", backend, SEARCHES)
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
    # images without pixels cannot be divided into chunks
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


def _fastest_search(pixels: torch.Tensor, classes: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    compiled = pixels.device.type == "cpu" and k <= MOST_COMPILED_NEIGHBOURS and not numba_obstacle()
    return SEARCHES["numba" if compiled else "torch"](pixels, classes, k)


SEARCHES: dict[str, Search] = {
    "auto": _fastest_search,
    "torch": partial(search_by_shortlist, torch_shortlist),
    "faiss": partial(search_by_shortlist, _faiss_shortlist),
    "numba": numba_search,
    "triton": partial(search_by_shortlist, triton_shortlist),
}
