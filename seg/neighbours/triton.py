"""Nearest classes on a GPU through Triton: a search backend, and the single nearest class for prediction.

Shapes: N images, S pixels of an image, P pixels, C classes, D embedding size.
"""

import torch

from seg.kernels.triton.launches import LARGEST_DIM, class_tiles, nearest_launch, next_power, padded_bias, padded_width
from seg.neighbours.shortlist import torch_shortlist
from shared.kernels import kernel_obstacle, outside_graphs, require_kernels

LARGEST_SHORTLIST = 64


def triton_obstacle() -> str:
    """Why the kernels cannot be loaded; empty where they can."""
    return kernel_obstacle("seg.kernels.triton.search")


def require_triton(pixels: torch.Tensor) -> None:
    """Refuse, with an InputError, pixel embeddings on a device that the kernels cannot run on."""
    require_kernels("seg.kernels.triton.search", pixels, what="pixel embeddings", instead="chunked or numba")


@outside_graphs
def triton_shortlist(pixels: torch.Tensor, classes: torch.Tensor, size: int) -> torch.Tensor:
    """Ids (P, size) of the classes with the smallest expanded distances, in any order: see `search_by_shortlist`.

    Args:
        pixels: (P, D) of any norm; searched in float32, as FAISS does.
        classes: (C, D) of any norm.
        size: how many; above 64, or with D above 64, plain torch searches.
    """
    require_triton(pixels)
    if size > LARGEST_SHORTLIST or pixels.shape[1] > LARGEST_DIM:
        return torch_shortlist(pixels, classes, size)
    vectors = classes.float()
    longest = _unit(vectors)
    # in the unit of the scaled classes, like the products
    bias = vectors.square().sum(1) / (-2 * longest)
    return _search(pixels.T[None], vectors, longest, bias, size)[0]


@outside_graphs
@torch.no_grad()
def triton_best_classes(pixels: torch.Tensor, class_embeddings: torch.Tensor) -> torch.Tensor:
    """Class with the largest x·μ for each pixel, the lowest id among equals: the nearest one, where all |μ| are equal.

    Products are exact to about 2⁻²⁰ of |x|·max|μ|; classes that are nearer to each other than that may be taken for one another.

    Args:
        pixels: (N, D, S) of any strides and norm, D ≤ 64.
        class_embeddings: (C, D).

    Returns:
        (N, S) int64.
    """
    require_triton(pixels)
    vectors = class_embeddings.float()
    return _search(pixels, vectors, _unit(vectors), vectors.new_zeros(len(vectors)), 1).squeeze(2)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """Scalar: the largest norm, or 1 where that is (nearly) zero."""
    longest = vectors.norm(dim=1).max()
    # a tensor, as reading the number would make the host wait for the GPU
    return torch.where(longest > 1e-30, longest, 1.0)


def _search(pixels: torch.Tensor, vectors: torch.Tensor, longest: torch.Tensor, bias: torch.Tensor, count: int) -> torch.Tensor:
    """(N, S, count) int64 for pixels (N, D, S)."""
    from seg.kernels.triton.search import nearest_kernel

    num_images, dim, num_pixels = pixels.shape
    launch = nearest_launch(len(vectors))
    tiles = class_tiles(vectors, longest, launch.block_c)
    ids = torch.empty(num_images, num_pixels, count, dtype=torch.int64, device=pixels.device)
    blocks_per_image = -(-num_pixels // launch.block_p)
    if ids.numel() == 0:
        return ids
    with torch.cuda.device_of(pixels):
        nearest_kernel[(num_images * blocks_per_image,)](
            pixels, tiles.high, tiles.low, padded_bias(bias, len(tiles.vectors)), ids,
            num_pixels, len(tiles.vectors), blocks_per_image, *pixels.stride(),
            COUNT=count, SLOTS=next_power(count), DIM=dim, DIM_PAD=padded_width(dim), **launch.tile(), **launch.options(),
        )  # fmt: skip
    return ids
