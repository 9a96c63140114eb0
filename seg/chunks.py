"""Pixels in chunks: how large they are, how they are read and written, and how they are shared among threads.

Shapes: N images, S pixels of an image, D embedding size; p pixels of a chunk, v of them valid.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

import torch

from shared.kernels import places_of, run_in_threads
from shared.precision import full_precision

ALIGNMENT = 16
WORTH_A_THREAD = 1024  # pixels
Result = TypeVar("Result")


_TILE_ELEMENTS = {"cpu": 2**19.5, "cuda": 2.0**25}  # a tile of scores that stays in a CPU's cache; one that fills a GPU


class Chunk(NamedTuple):
    """Pixels start to stop of an image."""

    image: int
    start: int
    stop: int


class PixelSums(Protocol):
    """What is summed over pixels.

    Attributes:
        loss: scalar.
        classes: the class gradient, or sums from which it follows.
    """

    loss: torch.Tensor
    classes: torch.Tensor

    def add(self, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
        """Add pixels (D, v) of any strides with targets (v,) int64, v ≥ 1. Their gradient (D, v), where gradients are wanted."""


Sums = TypeVar("Sums", bound=PixelSums)


def sum_over_pixels(
    new_sums: Callable[[int], Sums],
    pixels: torch.Tensor,
    labels: torch.Tensor,
    ignore_index: int,
    chunk_pixels: int,
    gradient: torch.Tensor | None,
) -> Sums:
    """Sums over all pixels that are not ignored, chunk by chunk.

    Args:
        new_sums: (most pixels of a chunk) → sums of nothing.
        pixels: (N, D, S), of any strides.
        labels: (N, S).
        ignore_index: label of the pixels that are left out.
        chunk_pixels: most pixels of a chunk.
        gradient: (N, D, S), written where it is given: zeros for the ignored pixels.
    """
    chunks = chunks_of(labels, chunk_pixels)
    longest = max(stop - start for _, start, stop in chunks)
    # one list for all chunks: reading the numbers one by one would let a GPU wait at each
    counts = torch.stack([(labels[image, start:stop] != ignore_index).sum() for image, start, stop in chunks]).tolist()
    valid_of = dict(zip(chunks, counts))

    def sums_of(share: Sequence[Chunk]) -> Sums:
        sums = new_sums(longest)
        for image, start, stop in share:
            chunk, chunk_labels = pixels[image, :, start:stop], labels[image, start:stop]
            # ignored pixels go before anything is computed: they may hold infinities, and cost nothing
            columns = places_of(chunk_labels != ignore_index, valid_of[Chunk(image, start, stop)])
            if len(columns) < len(chunk_labels):
                chunk, chunk_labels = _read_columns(chunk, columns), chunk_labels[columns]
            # an empty chunk (D, 0) stands for the gradient of no pixels
            values = sums.add(chunk, chunk_labels.long()) if len(columns) else chunk
            if gradient is not None:
                assert values is not None, "sums that know no gradients, and memory for them"
                _write_columns(gradient[image, :, start:stop], columns, values.to(gradient.dtype))
        return sums

    first, *others = share_chunks(sums_of, chunks, pixels.device)
    # in the order of the shares, so that rounding is the same every time
    for share in others:
        first.loss += share.loss
        first.classes += share.classes
    return first


def chunks_of(labels: torch.Tensor, size: int) -> list[Chunk]:
    """Chunks that cover labels (N, S), about equally long within an image.

    Args:
        labels: (N, S); only their shape and device matter.
        size: most pixels of a chunk, rounded down to a multiple of 16. On a CPU fewer where some threads would otherwise have no chunk.
    """
    num_images, num_pixels = labels.shape
    if labels.device.type == "cpu":
        size = min(size, max(labels.numel() // torch.get_num_threads(), WORTH_A_THREAD))
    size = max(size // ALIGNMENT * ALIGNMENT, ALIGNMENT)
    step = aligned(-(-num_pixels // -(-num_pixels // size)))
    starts = range(0, num_pixels, step)
    return [Chunk(image, start, min(start + step, num_pixels)) for image in range(num_images) for start in starts]


def aligned(count: int) -> int:
    """The next multiple of 16: products are slow where the rows of a matrix begin anywhere in memory."""
    return -(-count // ALIGNMENT) * ALIGNMENT


def share_chunks(work: Callable[[Sequence[Chunk]], Result], chunks: Sequence[Chunk], device: torch.device) -> list[Result]:
    """Results of `work` on one or several contiguous shares of the chunks, in their order.

    On a CPU there is a share for each of the threads that torch may use, and each runs on one of them: a chunk is too small for several
    threads to work on together. The shares depend on `torch.get_num_threads()` alone, so that sums over them are repeatable.
    """
    count = min(torch.get_num_threads(), len(chunks)) if device.type == "cpu" else 1
    if count <= 1:
        return [work(chunks)]
    # contiguous shares: which pixels a thread sums does not depend on who is faster
    bounds = [len(chunks) * i // count for i in range(count + 1)]
    return run_in_threads(work, [chunks[start:stop] for start, stop in pairwise(bounds)])


def _read_columns(matrix: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """(D, v) columns of a (D, p) matrix of any strides."""
    if matrix.stride(0) < matrix.stride(1):  # pixels are rows in memory: whole rows are read
        return matrix.T.index_select(0, columns).T
    return matrix.index_select(1, columns)


def _write_columns(matrix: torch.Tensor, columns: torch.Tensor, values: torch.Tensor) -> None:
    """Set columns of a (D, p) matrix of any strides to values (D, v), and the others to zero."""
    if len(columns) == matrix.shape[1]:
        matrix.copy_(values)
    else:
        matrix.zero_().scatter_(1, columns.expand(len(matrix), -1), values)


def computation_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """float64 when one of the tensors is; else float32."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def pixels_per_chunk(elements_per_pixel: int, device: torch.device) -> int:
    """Power of two from 64 to 2¹⁴ (CPU) or 2¹⁸ (GPU) for which a tile of that many pixels suits the device's memory."""
    tile = _TILE_ELEMENTS.get(device.type, _TILE_ELEMENTS["cpu"])
    largest = 18 if device.type == "cuda" else 14
    return 2 ** min(max(round(math.log2(tile / elements_per_pixel)), 6), largest)


@contextmanager
def full_precision_matmul(device_type: str) -> Iterator[None]:
    """Products in the operands' own precision, whatever autocast or the TF32 setting say."""
    with full_precision(convolutions=False), torch.autocast(device_type, enabled=False):
        yield
