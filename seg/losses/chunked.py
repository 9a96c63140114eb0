"""The embedding loss in plain torch, on any device, with the peak memory of a few pieces.

Over the nearest classes it goes in chunks of pixels; over all classes it is streamed over tiles of classes × pixels. In the latter pixels
are columns: a sum over classes then adds whole rows, and maps (N, D, H, W) are read and written as they lie in memory.

Shapes: N images, S pixels of an image, C classes, D embedding size, K neighbours; v valid pixels of a chunk, t classes of a tile,
E as in `seg.losses.scores`.
"""

import torch
import torch.nn.functional as F

from seg.chunks import ALIGNMENT, aligned, computation_dtype, full_precision_matmul, pixels_per_chunk, sum_over_pixels
from seg.losses.objective import LossAndGradients, Objective
from seg.losses.scores import LN2, SCORES, Scores
from seg.neighbours import nearest_classes

TILE_ELEMENTS = {"cpu": 2**20, "cuda": 2**25}  # stays in a CPU's cache; fills a GPU
TILE_PIXELS = {"cpu": (64, 2**14), "cuda": (256, 2**18)}  # fewest and most: below, products are slow; above, nothing is gained
CHUNK_PIXELS = {"cpu": 2**12, "cuda": 2**18}  # of several tiles, for which what has no classes is computed at once
# of sums: float32 ends at 2^±126, and their quotients have to be inside too. For unit vectors and the temperature 0.05 scores lie between
# −87 and 29, so that only many classes at a pixel's own place need the slower way
SAFE_RANGE = 2.0**-88, 2.0**32


def streamed_loss(
    pixels: torch.Tensor, class_embeddings: torch.Tensor, labels: torch.Tensor, objective: Objective, wants_gradients: bool
) -> LossAndGradients:
    """An `Implementation` of the loss over all classes, see there."""
    dtype, device = computation_dtype(pixels, class_embeddings), pixels.device
    scores = SCORES[objective.distance](class_embeddings.to(dtype), objective.sharpness)
    tile_pixels, tile_classes = tile_shape(len(class_embeddings), device)
    chunk_pixels = max(CHUNK_PIXELS[_kind(device)] // tile_pixels, 1) * tile_pixels
    gradient = torch.empty_like(pixels, dtype=dtype) if wants_gradients else None

    def new_sums(most_pixels: int) -> _StreamedSums:
        return _StreamedSums(scores, objective, min(tile_pixels, aligned(most_pixels)), tile_classes, wants_gradients)

    with full_precision_matmul(device.type):
        sums = sum_over_pixels(new_sums, pixels, labels, objective.ignore_index, chunk_pixels, gradient)
    loss = (sums.loss / objective.total_weight).to(dtype)
    return LossAndGradients(loss) if gradient is None else LossAndGradients(loss, (gradient, scores.class_gradient(sums.classes)))


def tile_shape(num_classes: int, device: torch.device) -> tuple[int, int]:
    """Pixels and classes of a tile. It has all classes, unless it would then be too large."""
    elements, (fewest, most) = TILE_ELEMENTS[_kind(device)], TILE_PIXELS[_kind(device)]
    # on a CPU 2^20 / 64 = 16 384 classes; with more, every tile is computed a second time for the gradient
    if num_classes * fewest <= elements:
        return min(max(elements // num_classes // ALIGNMENT * ALIGNMENT, fewest), most), num_classes
    return 8 * fewest, elements // (8 * fewest)


def _kind(device: torch.device) -> str:
    return "cuda" if device.type == "cuda" else "cpu"


class _StreamedSums:
    """Loss and class gradient of some pixels, see `seg.chunks.PixelSums`, and the memory in which they are made.

    With the scores z of a pixel, S = Σ 2^(z − m) over all classes but the target and gap = log₂ S + m − z_target, its loss is
    log(1 + 2^gap). The target stays out of the sum, and its p − 1 is minus the sum of the other p: late in training both are far below
    the rounding error of 1. For unit vectors and usual temperatures m = 0 serves; from the first chunk on in which a number comes near
    the ends of the number range, m is the largest score of the pixel.
    """

    def __init__(self, scores: Scores, objective: Objective, tile_pixels: int, tile_classes: int, wants_gradients: bool) -> None:
        table = scores.table
        self.loss = table.new_zeros((), dtype=torch.float64)
        self.classes = torch.zeros_like(table) if wants_gradients else table.new_zeros(())
        self._scores, self._objective, self._wants_gradients, self._width = scores, objective, wants_gradients, tile_pixels
        self._tiles = [slice(start, min(start + tile_classes, len(table))) for start in range(0, len(table), tile_classes)]
        self._tile_memory = table.new_empty(min(tile_classes, len(table)) * tile_pixels)
        self._columns = torch.arange(tile_pixels, device=table.device)
        self._shifted = False

    def add(self, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
        dim, count = pixels.shape
        width = min(self._width, aligned(count))
        num_tiles = -(-count // width)
        loaded = self._scores.new_pixels(num_tiles * width)
        self._scores.load(pixels, loaded)
        loaded = loaded.unflatten(1, (num_tiles, width)).movedim(1, 0).contiguous()  # (tiles, E, v)
        targets = F.pad(targets, (0, num_tiles * width - count)).view(num_tiles, width)
        found = None if self._shifted or len(self._tiles) > 1 else self._add_at_once(loaded, targets, count)
        if found is None:
            found = torch.stack([self._add_tile(*tile) for tile in zip(loaded, targets, self._weights(targets, count))])
        return found.movedim(0, 1).flatten(1)[:dim, :count] if self._wants_gradients else None

    def _weights(self, targets: torch.Tensor, count: int) -> torch.Tensor:
        """(tiles, v), 0 for what fills up the last tile."""
        weights = torch.zeros_like(targets, dtype=self._tile_memory.dtype)
        weights.view(-1)[:count] = self._objective.weights_of(targets.view(-1)[:count])
        return weights

    def _add_at_once(self, loaded: torch.Tensor, targets: torch.Tensor, count: int) -> torch.Tensor | None:
        """With all classes in a tile and without a shift; the gradient (tiles, E, v). None, and nothing added, where one is needed."""
        own, sums = loaded.new_empty(2, *targets.shape).unbind()
        positions = torch.add(self._columns[: targets.shape[1]], targets, alpha=targets.shape[1])
        gradient = torch.zeros_like(loaded) if self._wants_gradients else loaded
        weights = self._weights(targets, count)
        # apart from the sums until the range is known to be safe; a sum of sums also keeps more digits
        classes = torch.zeros_like(self.classes)
        (rows,) = self._tiles
        tile = self._tile(rows, targets.shape[1])
        flat = tile.view(-1)
        for x, place, z, total, weight, pull in zip(loaded, positions, own, sums, weights, gradient):
            self._scores.compute(rows, x, tile)
            torch.index_select(flat, 0, place, out=z)
            # 2^−∞ = 0 takes the target out of the sum
            flat.index_fill_(0, place, -torch.inf)
            torch.sum(tile.exp2_(), 0, out=total)
            if self._wants_gradients:
                factor = torch.exp2(z).add_(total).reciprocal_().mul_(weight)
                # the target's p − 1 as minus the sum of the others, which divides by S + 2^z_target like them
                flat.index_copy_(0, place, -total)
                self._scores.add_gradients(rows, tile, x, factor, pull, classes)
                pull.mul_(factor)
        own = own.exp2_()
        # once for all tiles: each look at a number lets a GPU wait
        if not _within(SAFE_RANGE, sums, own):
            self._shifted = True  # for later chunks too, which then save the attempt
            return None
        self.loss += sums.div_(own).log1p_().mul_(weights).view(-1)[:count].sum(dtype=torch.float64)
        if self._wants_gradients:
            self.classes.add_(classes, alpha=LN2 / self._objective.total_weight)
        return gradient.mul_(LN2 / self._objective.total_weight)

    def _add_tile(self, loaded: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Add pixels (E, v); their gradient (E, v)."""
        sums, target_scores, peaks = self._sum_exponentials(loaded, targets)
        if not self._shifted and not _within(SAFE_RANGE, sums):
            self._shifted = True
            sums, target_scores, peaks = self._sum_exponentials(loaded, targets)
        gaps = sums.log2().add_(peaks).sub_(target_scores).mul_(LN2)
        # torch's threshold of 20 drops e⁻²⁰, which float64 would still show
        self.loss += F.softplus(gaps, threshold=40).mul_(weights).sum(dtype=torch.float64)
        if not self._wants_gradients:
            return loaded
        # 2^(z − m) times the factors is weight · p / total weight
        factors = gaps.sigmoid_().div_(sums).mul_(weights).mul_(LN2 / self._objective.total_weight)
        return self._gradient(loaded, targets, sums, peaks, factors)

    def _sum_exponentials(self, pixels: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """S, z_target and m, each (v,). The memory then holds the exponentials of the last tile."""
        sums, target_scores, peaks = pixels.new_zeros(3, len(targets))
        if self._shifted:
            # not −∞, which minus itself is nan where a tile holds the target alone; half, so that no difference overflows
            peaks.fill_(torch.finfo(peaks.dtype).min / 2)
        for rows in self._tiles:
            tile = self._tile(rows, len(targets))
            self._scores.compute(rows, pixels, tile)
            columns, positions = self._targets_in(rows, targets)
            target_scores[columns] = tile.view(-1).index_select(0, positions)
            tile.view(-1).index_fill_(0, positions, -torch.inf)
            if self._shifted:
                # sums of earlier tiles are brought to the new peak, as in any streamed softmax
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
            # with −S in the target's place a column sums to zero over all tiles
            tile.view(-1).index_copy_(0, positions, -sums[columns])
            self._scores.add_gradients(rows, tile, pixels, factors, gradient, self.classes)
        return gradient.mul_(factors)

    def _tile(self, rows: slice, count: int) -> torch.Tensor:
        return self._tile_memory[: (rows.stop - rows.start) * count].view(-1, count)

    def _targets_in(self, rows: slice, targets: torch.Tensor) -> tuple[slice | torch.Tensor, torch.Tensor]:
        """Which pixels have their target in a tile, and where in the tile's memory it is."""
        every = self._columns[: len(targets)]
        if len(self._tiles) == 1:
            # every pixel has its target here; nonzero() would let a GPU wait for their number
            return slice(None), torch.add(every, targets, alpha=len(targets))
        columns = ((targets >= rows.start) & (targets < rows.stop)).nonzero().squeeze(1)
        return columns, columns + (targets[columns] - rows.start) * len(targets)


def _within(limits: tuple[float, float], *values: torch.Tensor) -> bool:
    """Whether all values are in the range; nan is not."""
    ends = torch.stack([end for some in values for end in some.aminmax()]).tolist()
    return all(limits[0] <= end <= limits[1] for end in ends)


def chunked_loss(
    pixels: torch.Tensor, class_embeddings: torch.Tensor, labels: torch.Tensor, objective: Objective, wants_gradients: bool
) -> LossAndGradients:
    """An `Implementation`, see there."""
    if objective.num_neighbours is None:
        return streamed_loss(pixels, class_embeddings, labels, objective, wants_gradients)
    num_neighbours, dtype = objective.num_neighbours, computation_dtype(pixels, class_embeddings)
    classes = class_embeddings.to(dtype)
    gradient = torch.empty_like(pixels, dtype=dtype) if wants_gradients else None
    size = pixels_per_chunk(2 * (num_neighbours + 1) * classes.shape[1], pixels.device)  # of several tensors (K+1, v, D)
    with full_precision_matmul(pixels.device.type):  # here, as the setting is one for all threads
        sums = sum_over_pixels(
            lambda _: _NeighbourSums(classes, num_neighbours, objective, wants_gradients),
            pixels,
            labels,
            objective.ignore_index,
            size,
            gradient,
        )
    # a class that is not a number is nobody's neighbour; the loss has to tell all the same
    loss = (sums.loss / objective.total_weight).to(dtype) + 0 * classes.abs().amax()
    return LossAndGradients(loss) if gradient is None else LossAndGradients(loss, (gradient, sums.classes))


def _sum_of_rows(classes: torch.Tensor, ids: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(C, D) sums of the values (n, D) of each id. In a fixed order on GPUs too, where index_add adds up as its threads come."""
    sums = torch.zeros_like(classes)
    return sums.index_put_((ids,), values, accumulate=True) if ids.is_cuda else sums.index_add_(0, ids, values)


class _NeighbourSums:
    """Loss and class gradient of some pixels, see `seg.chunks.PixelSums`."""

    def __init__(self, classes: torch.Tensor, num_neighbours: int, objective: Objective, wants_gradients: bool) -> None:
        self._embeddings, self._num_neighbours, self._objective, self._wants_gradients = classes, num_neighbours, objective, wants_gradients
        self.loss = classes.new_zeros((), dtype=torch.float64)
        self.classes = torch.zeros_like(classes) if wants_gradients else classes.new_zeros(())

    def add(self, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
        chunk = pixels.T.to(self._embeddings.dtype).contiguous()
        neighbours, squared = nearest_classes(chunk, self._embeddings, self._num_neighbours, self._objective.search)
        # (K+1, v), the target first: a sum over the candidates adds whole rows
        candidates = torch.cat([targets[None], neighbours.T])
        counted_twice = candidates[1:] == targets
        to_target = F.embedding(targets, self._embeddings).sub_(chunk).square_().sum(1)
        squared = torch.cat([to_target[None], squared.T])
        is_squared = self._objective.distance == "squared"
        distances = squared if is_squared else squared.sqrt()
        gaps = (distances[0] - distances).mul_(self._objective.sharpness)
        gaps[1:].masked_fill_(counted_twice, -torch.inf)
        # loss = log(1 + Σ exp gap) over the others. The target's 1 stays out of the sum, and its p − 1 is minus the sum of the other p:
        # late in training both are far below the rounding error of 1.
        weights = self._objective.weights_of(targets)
        # threshold as above
        self.loss += F.softplus(gaps[1:].logsumexp(0), threshold=40).mul_(weights).sum(dtype=torch.float64)
        self.loss += 0 * to_target.sum()  # a pixel that is not finite may have found its own target as every neighbour, and cost nothing
        if not self._wants_gradients:
            return None
        slopes = gaps.softmax(0).mul_(weights * (-self._objective.sharpness / self._objective.total_weight))  # ∂loss/∂distance
        slopes[0] = -slopes[1:].sum(0)
        # ∂distance/∂offset = stretch · offset; the plain distance has no gradient at zero and is given zero
        slopes.mul_(2 if is_squared else distances.reciprocal().masked_fill_(distances == 0, 0))
        by_offset = F.embedding(candidates, self._embeddings).sub_(chunk).mul_(slopes[..., None])  # (K+1, v, D), offset = candidate − pixel
        # a sum per chunk, then a sum of sums: one running float32 sum over all pixels would lose digits
        self.classes += _sum_of_rows(self._embeddings, candidates.flatten(), by_offset.flatten(0, 1))
        return by_offset.sum(0).neg_().T
