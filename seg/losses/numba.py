"""The embedding loss over the nearest classes on the CPU, compiled: search, loss and gradients in one pass over blocks of pixels.

Shapes: N images, S pixels of an image, C classes, D embedding size, E = D padded to whole vectors, K neighbours.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from seg.chunks import Chunk, chunks_of, computation_dtype, share_chunks, sum_over_pixels
from seg.losses.chunked import chunked_loss
from seg.losses.objective import LossAndGradients, Objective
from seg.losses.scores import LN2, SquaredScores
from seg.neighbours.numba import TILE_PIXELS, require_numba


def numba_loss(
    pixels: torch.Tensor, class_embeddings: torch.Tensor, labels: torch.Tensor, objective: Objective, wants_gradients: bool
) -> LossAndGradients:
    """An `Implementation`, see there. The loss over all classes is `chunked_loss`.

    The neighbours are found as in `nearest_classes` with the backend "numba". Memory: a copy of the classes, and for each thread the
    class gradient (twice, unless there are more classes than pixels in a tile).
    """
    require_numba(pixels.device)
    if objective.num_neighbours is None:
        return _exact_loss(pixels, class_embeddings, labels, objective, wants_gradients)
    # here, as importing it needs numba
    from seg.kernels.numba.block import class_table, new_block
    from seg.kernels.numba.neighbour_loss import neighbour_loss_kernel

    dtype, num_neighbours = computation_dtype(pixels, class_embeddings), objective.num_neighbours
    pixels, classes = pixels.detach(), class_embeddings.detach().to(dtype)
    table = class_table(classes.numpy())
    kernel = neighbour_loss_kernel(table.rows.dtype)
    # zeros, as the kernel writes the valid pixels alone
    pixel_gradient = torch.zeros_like(pixels, dtype=dtype) if wants_gradients else None
    nothing = np.empty((0, 0), table.rows.dtype)
    class_weights = _flat_weights(objective, table.rows.dtype)

    def work(chunks: Sequence[Chunk]) -> tuple[float, np.ndarray]:
        block, places = new_block(table, num_neighbours), np.empty(TILE_PIXELS, np.int64)
        weights = np.empty((num_neighbours + 1) * block.place.size, table.rows.dtype)
        loss, class_gradient = 0.0, np.zeros(table.rows.size if wants_gradients else 0, table.rows.dtype)
        # a sum per tile, then a sum of sums: one running float32 sum over all pixels would lose digits
        tile_gradient = np.zeros_like(class_gradient) if len(classes) <= TILE_PIXELS else class_gradient
        for image, start, stop in chunks:
            loss += kernel(
                pixels[image, :, start:stop].to(dtype).numpy(),
                # the kernel is compiled for 64-bit labels alone
                labels[image, start:stop].long().numpy(),
                objective.ignore_index,
                table,
                class_weights,
                objective.distance == "plain",
                objective.sharpness,
                1 / objective.total_weight if wants_gradients else 0.0,
                block,
                places,
                weights,
                nothing if pixel_gradient is None else pixel_gradient[image, :, start:stop].numpy(),
                tile_gradient,
            )
            if tile_gradient is not class_gradient:
                class_gradient += tile_gradient
                tile_gradient.fill(0)
        return loss, class_gradient

    (loss, class_gradient), *others = share_chunks(work, chunks_of(labels, TILE_PIXELS), pixels.device)
    for more_loss, more_gradient in others:
        loss += more_loss
        class_gradient += more_gradient
    # a class that is not a number is nobody's neighbour; the loss has to tell all the same
    mean = classes.new_tensor(loss / objective.total_weight + 0 * table.reach)
    if pixel_gradient is None:
        return LossAndGradients(mean)
    rows = class_gradient.reshape(-1, table.padded_dim)[: len(classes), : classes.shape[1]]
    # a copy, as a view would keep the padded sums alive
    return LossAndGradients(mean, (pixel_gradient, torch.from_numpy(rows.copy())))


def _exact_loss(
    pixels: torch.Tensor, class_embeddings: torch.Tensor, labels: torch.Tensor, objective: Objective, wants_gradients: bool
) -> LossAndGradients:
    # the compiled loss makes scores by products, and the plain distance needs differences
    if objective.distance != "squared":
        return chunked_loss(pixels, class_embeddings, labels, objective, wants_gradients)
    dtype = computation_dtype(pixels, class_embeddings)
    scores = SquaredScores(class_embeddings.detach().to(dtype), objective.sharpness)
    gradient = torch.empty_like(pixels, dtype=dtype) if wants_gradients else None
    sums = sum_over_pixels(
        lambda most: _ExactSums(scores, objective, most, LN2 / objective.total_weight if wants_gradients else 0.0),
        *(pixels, labels, objective.ignore_index, TILE_PIXELS, gradient),
    )
    loss = (sums.loss / objective.total_weight).to(dtype)
    return LossAndGradients(loss) if gradient is None else LossAndGradients(loss, (gradient, scores.class_gradient(sums.classes)))


class _ExactSums:
    """Loss and sums for the class gradient of some pixels, see `seg.chunks.PixelSums`."""

    def __init__(self, scores: SquaredScores, objective: Objective, most_pixels: int, gradient_scale: float) -> None:
        from seg.kernels.numba.exact_loss import exact_loss_kernel, new_pixels, pixels_of_a_block, score_table

        dim = len(scores.origin)
        self._scores, self._gradient_scale = scores, gradient_scale
        self._table = score_table(scores.table[:, :dim].numpy(), scores.table[:, dim].numpy())
        self._class_weights = _flat_weights(objective, self._table.rows.dtype)
        self._kernel = exact_loss_kernel(self._table.rows.dtype)
        self._block, self._block_size = new_pixels(self._table), pixels_of_a_block(self._table.rows.dtype)
        # a chunk is filled up to whole blocks
        self._pixel_memory = scores.table.new_empty(dim * (most_pixels + self._block_size))
        self._gradient_memory = torch.empty_like(self._pixel_memory) if gradient_scale else self._pixel_memory[:0]
        class_memory = np.zeros(self._table.rows.size if gradient_scale else 0, self._table.rows.dtype)
        # a sum per tile, then a sum of sums: one running float32 sum over all pixels would lose digits
        self._tile_sums = np.zeros_like(class_memory) if len(scores.table) <= TILE_PIXELS else class_memory
        self._class_memory = class_memory
        self.loss = torch.zeros((), dtype=torch.float64)
        self.classes = torch.from_numpy(class_memory.reshape(-1, self._table.padded_dim)[: len(scores.table)])

    def add(self, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
        dim, count = pixels.shape
        padded = -(-count // self._block_size) * self._block_size
        loaded, gradient = (memory[: dim * padded].view(-1, padded) for memory in (self._pixel_memory, self._gradient_memory))
        torch.sub(pixels, self._scores.origin[:, None], out=loaded[:, :count])
        # an infinity left by an earlier chunk times the factor 0 would be nan in the class sums
        loaded[:, count:] = 0
        targets = F.pad(targets, (0, padded - count), value=-1)
        self.loss += self._kernel(
            *(loaded.view(-1).numpy(), targets.numpy(), self._table, self._class_weights, self._gradient_scale, self._block),
            *(gradient.view(-1).numpy(), self._tile_sums),
        )
        if self._tile_sums is not self._class_memory:
            self._class_memory += self._tile_sums
            self._tile_sums.fill(0)
        return gradient[:, :count] if self._gradient_scale else None


def _flat_weights(objective: Objective, dtype: np.dtype[Any]) -> np.ndarray:
    """(C,), or nothing where all pixels count alike."""
    weights = objective.class_weights
    return np.empty(0, dtype) if weights is None else weights.numpy().astype(dtype, copy=False)
