"""The embedding loss over all classes, streamed over tiles of classes × pixels: any device, plain torch.

Shapes: N images, S pixels of an image, C classes, D embedding size; v valid pixels of a chunk, t classes of a tile, E as in `seg.scores`.
Pixels are columns: a sum over classes then adds whole rows, and maps (N, D, H, W) are read and written as they lie in memory.
"""

import torch
import torch.nn.functional as F

from seg.chunks import ALIGNMENT, aligned, sum_over_pixels
from seg.neighbours import computation_dtype, full_precision_matmul
from seg.objective import LossAndGradients, Objective
from seg.scores import LN2, SCORES, Scores

TILE_ELEMENTS = {"cpu": 2**20, "cuda": 2**25}  # stays in a CPU's cache; fills a GPU
CHUNK_PIXELS = {"cpu": (64, 2**14), "cuda": (256, 2**18)}  # fewest and most: below, products are slow; above, nothing is gained
SAFE_RANGE = 2.0**-90, 2.0**90  # of sums: float32 ends at 2^±126, and the sums are still multiplied


def streamed_loss(
    pixels: torch.Tensor, class_embeddings: torch.Tensor, labels: torch.Tensor, objective: Objective, wants_gradients: bool
) -> LossAndGradients:
    """An `Implementation` of the loss over all classes, see there."""
    dtype, device = computation_dtype(pixels, class_embeddings), pixels.device
    scores = SCORES[objective.distance](class_embeddings.to(dtype), objective.sharpness)
    chunk_pixels, tile_classes = tile_shape(len(class_embeddings), device)
    gradient = torch.empty_like(pixels, dtype=dtype) if wants_gradients else None

    def new_sums(most_pixels: int) -> _Sums:
        return _Sums(scores, objective.num_valid, most_pixels, tile_classes, wants_gradients)

    with full_precision_matmul(device.type):
        sums = sum_over_pixels(new_sums, pixels, labels, objective.ignore_index, chunk_pixels, gradient)
    loss = (sums.loss / objective.num_valid).to(dtype)
    return LossAndGradients(loss) if gradient is None else LossAndGradients(loss, (gradient, scores.class_gradient(sums.classes)))


def tile_shape(num_classes: int, device: torch.device) -> tuple[int, int]:
    """Pixels of a chunk and classes of a tile. A tile has all classes, unless it would then be too large."""
    kind = "cuda" if device.type == "cuda" else "cpu"
    elements, (fewest, most) = TILE_ELEMENTS[kind], CHUNK_PIXELS[kind]
    if num_classes * fewest <= elements:
        return min(max(elements // num_classes // ALIGNMENT * ALIGNMENT, fewest), most), num_classes
    return 8 * fewest, elements // (8 * fewest)


class _Sums:
    """Loss and class gradient of some pixels, see `seg.chunks.PixelSums`, and the memory in which they are made.

    With the scores z of a pixel, S = Σ 2^(z − m) over all classes but the target and gap = log₂ S + m − z_target, its loss is
    log(1 + 2^gap). The target stays out of the sum, and its p − 1 is minus the sum of the other p: late in training both are far below
    the rounding error of 1. For unit vectors and usual temperatures m = 0 serves; from the first chunk on in which a sum comes near
    the ends of the number range, m is the largest score of the pixel.
    """

    def __init__(self, scores: Scores, num_valid: int, most_pixels: int, tile_classes: int, wants_gradients: bool) -> None:
        table, size = scores.table, aligned(most_pixels)
        self.loss = table.new_zeros((), dtype=torch.float64)
        self.classes = torch.zeros_like(table) if wants_gradients else table.new_zeros(())
        self._scores, self._num_valid, self._wants_gradients = scores, num_valid, wants_gradients
        self._tiles = [slice(start, min(start + tile_classes, len(table))) for start in range(0, len(table), tile_classes)]
        self._tile_memory = table.new_empty(min(tile_classes, len(table)) * size)
        self._pixel_memory = scores.new_pixels(size)
        self._columns = torch.arange(size, device=table.device)
        self._shifted = False

    def add(self, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
        dim, count = pixels.shape
        targets = F.pad(targets, (0, aligned(count) - count))
        loaded = self._pixel_memory[:, : len(targets)]
        self._scores.load(pixels, loaded)
        sums, target_scores, peaks = self._sum_exponentials(loaded, targets)
        if not self._shifted and not _within(sums, SAFE_RANGE):
            self._shifted = True
            sums, target_scores, peaks = self._sum_exponentials(loaded, targets)
        gaps = sums.log2().add_(peaks).sub_(target_scores).mul_(LN2)
        self.loss += F.softplus(gaps[:count], threshold=40).sum(dtype=torch.float64)
        if not self._wants_gradients:
            return None
        factors = gaps.sigmoid_().div_(sums).mul_(LN2 / self._num_valid)  # 2^(z − m) times this is p / num_valid
        factors[count:] = 0
        return self._gradient(loaded, targets, sums, peaks, factors)[:dim, :count]

    def _sum_exponentials(self, pixels: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """S, z_target and m, each (v,). The memory then holds the exponentials of the last tile."""
        sums, target_scores, peaks = pixels.new_zeros(3, len(targets))
        if self._shifted:
            peaks.fill_(torch.finfo(peaks.dtype).min / 2)
        for rows in self._tiles:
            tile = self._tile(rows, len(targets))
            self._scores.compute(rows, pixels, tile)
            columns, positions = self._targets_in(rows, targets)
            target_scores[columns] = tile.view(-1).index_select(0, positions)
            tile.view(-1).index_fill_(0, positions, -torch.inf)
            if self._shifted:
                raised = torch.maximum(peaks, tile.amax(0))
                sums *= peaks.sub_(raised).exp2_()
                peaks = raised
                tile -= peaks
            sums += tile.exp2_().sum(0)
        if self._shifted:
            sums.clamp_(min=torch.finfo(sums.dtype).tiny)  # where the target is the only class
        return sums, target_scores, peaks

    def _gradient(
        self, pixels: torch.Tensor, targets: torch.Tensor, sums: torch.Tensor, peaks: torch.Tensor, factors: torch.Tensor
    ) -> torch.Tensor:
        """Add to the class gradient; the pixels' (E, v). One tile is used as it was left, several are computed again."""
        gradient = torch.zeros_like(pixels)
        for rows in self._tiles:
            tile = self._tile(rows, len(targets))
            if len(self._tiles) > 1:
                self._scores.compute(rows, pixels, tile)
                tile.sub_(peaks).exp2_()
            columns, positions = self._targets_in(rows, targets)
            tile.view(-1).index_copy_(0, positions, -sums[columns])
            self._scores.add_gradients(rows, tile, pixels, factors, gradient, self.classes)
        return gradient.mul_(factors)

    def _tile(self, rows: slice, count: int) -> torch.Tensor:
        return self._tile_memory[: (rows.stop - rows.start) * count].view(-1, count)

    def _targets_in(self, rows: slice, targets: torch.Tensor) -> tuple[slice | torch.Tensor, torch.Tensor]:
        """Which pixels have their target in a tile, and where in the tile's memory it is."""
        every = self._columns[: len(targets)]
        if len(self._tiles) == 1:
            return slice(None), torch.add(every, targets, alpha=len(targets))
        columns = ((targets >= rows.start) & (targets < rows.stop)).nonzero().squeeze(1)
        return columns, columns + (targets[columns] - rows.start) * len(targets)


def _within(values: torch.Tensor, limits: tuple[float, float]) -> bool:
    """Whether all values are in the range; not-a-numbers are not."""
    low, high = values.aminmax()
    return limits[0] <= float(low) and float(high) <= limits[1]
