"""Nearest classes on the CPU, compiled by numba: a search backend, and the single best class for prediction.

Shapes: N images, S pixels of an image, P pixels, C classes, D embedding size, K neighbours.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from seg.chunks import Chunk, chunks_of, share_chunks
from shared.errors import InputError
from shared.kernels import outside_graphs

TILE_PIXELS = 8192  # for one call of a kernel: long against the call, small against the memory of anything else


@cache
def numba_obstacle() -> str:
    """Why the kernels cannot be loaded; empty where they can."""
    try:
        import seg.kernels.numba.search  # noqa: F401
    except ImportError as error:
        return str(error)
    return ""


def require_numba(device: torch.device) -> None:
    """Refuse, with an InputError, what the kernels cannot run on."""
    if numba_obstacle():
        raise InputError(f"'numba' cannot be loaded ({numba_obstacle()}); install the package numba, or choose another")
    if device.type != "cpu":
        raise InputError(f"'numba' runs on the CPU, and the pixel embeddings are on {device}; choose another, or 'auto'")


@outside_graphs
def numba_search(pixels: torch.Tensor, classes: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A search of `seg.neighbours.search`, see there. Memory: K numbers per pixel of a block, and one copy of the classes."""
    require_numba(pixels.device)
    from seg.kernels.numba.block import class_table, new_block
    from seg.kernels.numba.search import nearest_kernel

    table = class_table(classes.numpy())
    search = nearest_kernel(table.rows.dtype)
    ids = torch.empty(len(pixels), k, dtype=torch.int64)
    distances = torch.empty(len(pixels), k, dtype=classes.dtype)

    def work(chunks: Sequence[Chunk]) -> None:
        # of each thread: a block is scratch memory
        block, places = new_block(table, k), np.empty(TILE_PIXELS, np.int64)
        for _, start, stop in chunks:
            tile = pixels[start:stop].to(classes.dtype).T.numpy()
            search(tile, table, block, places, ids[start:stop].numpy(), distances[start:stop].numpy())

    share_chunks(work, chunks_of(ids[:, :1].T, TILE_PIXELS), pixels.device)
    return ids, distances


@outside_graphs
def numba_best_classes(pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """`seg.neighbours.best_classes` for pixels (N, D, S) and classes (C, D) in the dtype of the computation."""
    require_numba(pixels.device)
    from seg.kernels.numba.block import class_table, new_block
    from seg.kernels.numba.search import best_kernel

    table = class_table(classes.numpy())
    table.bias[: len(classes)] = 0  # the score is x·μ alone
    best = best_kernel(table.rows.dtype)
    ids = torch.empty(len(pixels), pixels.shape[2], dtype=torch.int64)

    def work(chunks: Sequence[Chunk]) -> None:
        block, places = new_block(table, 1), np.empty(TILE_PIXELS, np.int64)
        for image, start, stop in chunks:
            tile = pixels[image, :, start:stop].to(classes.dtype).numpy()
            best(tile, table, block, places, ids[image, start:stop].numpy())

    share_chunks(work, chunks_of(ids, TILE_PIXELS), pixels.device)
    return ids
