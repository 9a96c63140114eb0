"""The embedding loss on CUDA: what the Triton kernels (`seg.kernels.triton.loss`, `seg.kernels.triton.search`) are given.

Shapes: N images, S pixels of an image, C classes, D embedding size, K neighbours, R records (pixels of blocks with a valid pixel).

A first kernel reads how long the pixels are and which blocks hold a valid one; the host then chooses how logits are made. Chunk by chunk of
records, the pixel kernel makes the loss, the pixel gradient and the records, from which the class kernel adds to the class sums. With
neighbours a search goes first, which finds for each pixel the logit between its K-th and its next class. Where rounding could exchange
these two, or where they are equal, `chunked_loss` computes the pixel: ties go to the lowest ids, as everywhere.

Memory beyond inputs and gradients: the records of a chunk (about 150 MB), the class sums of the splits (5 MB at D ≤ 16, 9 to 17 MB
above, or a few times C·D numbers), 12 bytes per block of pixels, and with neighbours 4 bytes per pixel.

Checked in Triton's interpreter, by compiling for sm_90, and on an H200 (docs/results/gpu).
"""

import math
from functools import cache, cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F

from seg.chunks import computation_dtype
from seg.kernels.triton.launches import (
    LARGEST_DIM,
    class_launch,
    class_tiles,
    next_multiple,
    next_power,
    padded_bias,
    padded_width,
    pixel_launch,
)
from seg.losses.chunked import chunked_loss
from seg.losses.objective import Implementation, LossAndGradients, Objective
from seg.neighbours.triton import require_triton
from shared.kernels import kernels_agree, kernels_missing, places_of

LARGEST_NEIGHBOURS = 32
MOST_CHECKED_CLASSES = 200
WIDEST_RANGE = 200.0  # bits between logits that need no running maximum: their exponentials lie between 2⁻¹²⁰ and 2⁸⁰
_PROGRAMS = 528  # of the class kernel: two waves of two on each of 132 multiprocessors
_RECORD_ELEMENTS = 2**24  # of a chunk: records times their width; with 2²² the launches of an H200 took longer than the work
_TIED_PIXELS = 2**15  # that `chunked_loss` is given at once
_KEY_ROUNDING = 2.0**-15  # of two compared keys of the search, which have 16 true bits
Arguments = dict[str, Any]


_TOLERANCE = 1e-3  # relative; the kernels' gradients are good to about 4e-4


def triton_loss(
    pixels: torch.Tensor, class_embeddings: torch.Tensor, labels: torch.Tensor, objective: Objective, wants_gradients: bool
) -> LossAndGradients:
    """An `Implementation`, see there. float64, D above 64 and K above 32 are left to `chunked_loss`."""
    require_triton(pixels)
    if _is_left_to_torch(pixels, class_embeddings, objective):
        return chunked_loss(pixels, class_embeddings, labels, objective, wants_gradients)
    # Triton launches on the current device, wherever the tensors are
    with torch.cuda.device_of(pixels):
        return _Evaluation(pixels.detach(), class_embeddings.detach(), labels, objective, wants_gradients).run()


def _is_left_to_torch(pixels: torch.Tensor, class_embeddings: torch.Tensor, objective: Objective) -> bool:
    too_many = pixels.shape[1] > LARGEST_DIM or (objective.num_neighbours or 0) > LARGEST_NEIGHBOURS
    return too_many or computation_dtype(pixels, class_embeddings) == torch.float64


class _Evaluation:
    """One evaluation of the loss: its arguments for the kernels, its results, and the launches."""

    def __init__(
        self, pixels: torch.Tensor, class_embeddings: torch.Tensor, labels: torch.Tensor, objective: Objective, wants_gradients: bool
    ) -> None:
        self.pixels, self.class_embeddings, self.labels = pixels, class_embeddings, labels
        self.objective, self.wants_gradients, self.select = objective, wants_gradients, objective.num_neighbours is not None
        self.num_classes, dim = class_embeddings.shape
        self.width = padded_width(dim)
        self.vectors = class_embeddings.float()
        self.plain = objective.distance == "plain"
        self.block_p = pixel_launch(True, self.width, self.num_classes).block_p
        self.geometry: Arguments = {
            "num_pixels": pixels.shape[2],
            "blocks_per_image": -(-pixels.shape[2] // self.block_p),
            "ignore_index": objective.ignore_index,
            **dict(zip(("pixel_image", "pixel_dim", "pixel_pixel"), pixels.stride())),
            **dict(zip(("label_image", "label_pixel"), labels.stride())),
        }
        self._visit_reaches()
        self._choose_logits()
        self.by_pixel = pixel_launch(self.bounded, self.width, self.num_classes)
        self.by_class = class_launch(self.bounded, self.width, self.num_classes)
        self.variant = {"BOUNDED": self.bounded, "PLAIN": self.plain, "DIM": dim, "DIM_PAD": self.width}

    def _visit_reaches(self) -> None:
        """Find the blocks with a valid pixel, and the largest norms of a valid pixel and of a class (1 where that is 0)."""
        from seg.kernels.triton.common import reach_kernel

        reaches = self.vectors.new_empty(len(self.pixels) * self.geometry["blocks_per_image"])
        reach_kernel[(len(reaches),)](
            self.pixels, self.labels, reaches, **self.geometry,
            DIM=self.pixels.shape[1], DIM_PAD=self.width, BLOCK_P=self.block_p, num_warps=4,
        )  # fmt: skip
        visited = reaches >= 0
        # one list: the host waits once for all of them
        numbers = torch.stack([reaches.max().sqrt().double(), self.vectors.norm(dim=1).max().double(), visited.sum().double()])
        pixel, longest, count = numbers.tolist()
        self.longest_pixel, self.longest_class = pixel or 1.0, longest or 1.0
        self.blocks = places_of(visited, int(count))

    def _choose_logits(self) -> None:
        """By products where their range allows it, and for the squared distance; else by differences. See `seg.kernels.triton.loss`."""
        sharpness = self.objective.sharpness / math.log(2)
        pixel, longest = self.longest_pixel, self.longest_class
        span = sharpness * (pixel + longest) ** 2
        rounding = 4 * (self.vectors.shape[1] + 4) * torch.finfo(torch.float32).eps  # of two distances, as in `seg.neighbours.search`
        self.bounded = not self.plain and span <= WIDEST_RANGE  # false where something is not a number
        bias, self.pixel_unit, logit_unit = self.vectors.new_zeros(self.num_classes), 1.0, 1.0
        self.margins = {"margin": 0.0, "relative_margin": _KEY_ROUNDING + rounding}
        if self.bounded:
            # logits reach from −(2·|x|·|μ| + |μ|²) to |x|²: their middle is put at −20
            middle = sharpness * (pixel**2 - 2 * pixel * longest - longest**2) / 2
            bias = -sharpness * self.vectors.square().sum(1) - (20 + middle)
            self.pixel_unit, logit_unit = 1 / pixel, 2 * sharpness * pixel * longest
            self.margins = {"margin": rounding * (span + 20), "relative_margin": _KEY_ROUNDING}
        block = max(class_launch(bounded, self.width, self.num_classes).block_c for bounded in (True, False))
        self.padded, high, low = class_tiles(self.vectors, longest if self.bounded else 1.0, block)
        # differences read a coordinate of many classes at a time, so these have to lie side by side
        columns = self.padded if self.bounded else self.padded.T.contiguous()
        self.classes: Arguments = {
            "class_high": high,
            "class_low": low,
            "columns": columns,
            "column_step": columns.stride(0),
            "bias": padded_bias(bias, len(self.padded)),
            "logit_unit": logit_unit,
            "sharpness": sharpness,
        }

    def run(self) -> LossAndGradients:
        """Loss and gradients."""
        size = min(_RECORD_ELEMENTS // self.width // self.block_p, len(self.blocks))
        thresholds = self.vectors.new_empty(len(self.blocks) * self.block_p if self.select else 0)
        records = self._new_records(size * self.block_p if self.wants_gradients else 0)
        self.gradient = torch.zeros_like(self.pixels if self.wants_gradients else self.pixels[:0], dtype=torch.float32)
        splits = self._num_splits(size * self.block_p) if self.wants_gradients else 0
        pulls, weights = self.padded.new_zeros(splits, *self.padded.shape), self.padded.new_zeros(splits, len(self.padded))
        loss = self.vectors.new_zeros((), dtype=torch.float64)
        for start in range(0, len(self.blocks), size):
            blocks, limits = self.blocks[start : start + size], thresholds[start * self.block_p :]
            loss += self._visit_pixels(blocks, limits, records)
            if self.wants_gradients:
                self._visit_classes(len(blocks) * self.block_p, limits, records, pulls, weights)
        loss /= self.objective.total_weight
        # Σ w·(x − μ), as the sums of w·x and of w
        sums = pulls.sum(0).sub_(self.padded * weights.sum(0)[:, None])
        self.class_gradient = sums[: self.num_classes, : self.vectors.shape[1]] * self._gradient_unit
        # last, as ties add to a class gradient that is finished
        ties = (thresholds == torch.inf).nonzero().squeeze(1) if self.select else thresholds.new_empty(0, dtype=torch.int64)
        for start in range(0, len(ties), _TIED_PIXELS):
            loss += self._add_ties(ties[start : start + _TIED_PIXELS])
        return LossAndGradients(loss.float(), (self.gradient, self.class_gradient) if self.wants_gradients else ())

    def _num_splits(self, num_records: int) -> int:
        """Shares of the records: enough for the programs to fill a GPU, and none of them empty."""
        class_blocks, record_blocks = len(self.padded) // self.by_class.block_c, num_records // self.by_class.block_p
        return min(max(1, _PROGRAMS // class_blocks), record_blocks)

    @cached_property
    def _gradient_unit(self) -> float:
        return self.objective.sharpness * (1 if self.plain else 2) / self.objective.total_weight

    @cached_property
    def _values(self) -> Arguments:
        high = self.padded.bfloat16()
        return {"value_high": high, "value_low": (self.padded - high).bfloat16(), "vectors": self.padded}

    def _new_records(self, count: int) -> Arguments:
        """What the pixel kernel leaves for the class kernel; one kind of logits needs the vectors, the other the copies."""

        def memory(dtype: torch.dtype, *shape: int) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype, device=self.pixels.device)

        products, differences = (count, 0) if self.bounded else (0, count)
        vectors = {"half": torch.float16, "share": torch.bfloat16}
        return {
            "targets": memory(torch.int32, count),
            "other_sums": memory(torch.float32, count),
            "shares": memory(torch.float32, count),
            "peaks": memory(torch.float32, differences),
            "copies": memory(torch.float32, self.width, differences),
            "record_step": count,
            **{f"{name}_{part}": memory(dtype, products, self.width) for name, dtype in vectors.items() for part in ("high", "low")},
        }

    def _visit_pixels(self, blocks: torch.Tensor, limits: torch.Tensor, records: Arguments) -> torch.Tensor:
        """Sum of the losses of some blocks; their gradient and records are written."""
        from seg.kernels.triton.loss import pixel_kernel
        from seg.kernels.triton.search import threshold_kernel

        common = {
            **self.geometry, **self.classes, **self.variant, **self.by_pixel.tile(), **self.by_pixel.options(),
            "pixels": self.pixels, "labels": self.labels, "blocks": blocks, "thresholds": limits,
            "num_classes": next_multiple(self.num_classes, self.by_pixel.block_c), "pixel_unit": self.pixel_unit,
        }  # fmt: skip
        # before the pixel kernel, which reads the thresholds
        if self.objective.num_neighbours is not None:
            count = self.objective.num_neighbours
            threshold_kernel[(len(blocks),)](**common, **self.margins, num_neighbours=count, SLOTS=next_power(count))
        losses, weights = self.vectors.new_empty(len(blocks)), self.objective.class_weights
        strides = dict(zip(("gradient_image", "gradient_dim", "gradient_pixel"), self.gradient.stride()))
        pixel_kernel[(len(blocks),)](
            **common, **self._values, **records, **strides, losses=losses, gradient=self.gradient, gradient_unit=self._gradient_unit,
            # without WEIGHTED the pointer is never read, but there has to be one
            class_weights=self.vectors if weights is None else weights, WEIGHTED=weights is not None,
            SELECT=self.select, GRADIENT=self.wants_gradients,
        )  # fmt: skip
        return losses.sum(dtype=torch.float64)

    def _visit_classes(
        self, num_records: int, limits: torch.Tensor, records: Arguments, pulls: torch.Tensor, weights: torch.Tensor
    ) -> None:
        """Add what some records give to the class sums (splits, C, D) and (splits, C)."""
        from seg.kernels.triton.loss import class_kernel

        splits = len(pulls)
        class_kernel[(len(self.padded) // self.by_class.block_c, splits)](
            **self.classes, **self.variant, **self.by_class.tile(), **self.by_class.options(), **records,
            thresholds=limits, pulls=pulls, weights_out=weights, num_classes=len(self.padded), num_records=num_records,
            records_per_split=next_multiple(-(-num_records // splits), self.by_class.block_p), SELECT=self.select,
        )  # fmt: skip

    def _add_ties(self, records: torch.Tensor) -> torch.Tensor:
        """The loss of pixels that the kernels left out; their gradients are added."""
        block, per_image = self.blocks[records // self.block_p], self.geometry["blocks_per_image"]
        image, pixel = block // per_image, block % per_image * self.block_p + records % self.block_p
        pixels, labels = self.pixels[image, :, pixel].T[None], self.labels[image, pixel][None]
        loss, gradients = chunked_loss(pixels, self.class_embeddings, labels, self.objective, self.wants_gradients)
        if gradients:
            self.gradient[image, :, pixel] = gradients[0][0].T
            self.class_gradient += gradients[1]
        return loss


def agreeing_triton_loss(
    pixels: torch.Tensor, class_embeddings: torch.Tensor, labels: torch.Tensor, objective: Objective, wants_gradients: bool
) -> LossAndGradients:
    """An `Implementation`: `triton_loss` where the kernels that it takes here have agreed with plain torch, else `chunked_loss`."""
    if _is_left_to_torch(pixels, class_embeddings, objective):
        return chunked_loss(pixels, class_embeddings, labels, objective, wants_gradients)
    agrees = partial(
        triton_agrees,
        pixels.device,
        objective.num_neighbours,
        dim=pixels.shape[1],
        num_classes=min(len(class_embeddings), MOST_CHECKED_CLASSES),
        distance=objective.distance,
        dtype=pixels.dtype,
    )
    with torch.cuda.device_of(pixels):
        # before anything is launched, as nothing may run here at all
        if agrees(bounded=objective.distance == "squared"):
            evaluation = _Evaluation(pixels.detach(), class_embeddings.detach(), labels, objective, wants_gradients)
            if agrees(bounded=evaluation.bounded):
                return evaluation.run()
    return chunked_loss(pixels, class_embeddings, labels, objective, wants_gradients)


@cache
def triton_agrees(
    device: torch.device,
    num_neighbours: int | None,
    *,
    dim: int = 12,
    num_classes: int = MOST_CHECKED_CLASSES,
    distance: str = "squared",
    bounded: bool = True,
    dtype: torch.dtype = torch.float32,
) -> bool:
    """Whether loss and gradients of a small problem are those of plain torch on this device; checked once for each kind of problem, in the
    seconds of compilation.

    Args:
        device: of the pixels.
        num_neighbours: of the loss over so many nearest classes; None: of the one over all.
        dim: D. num_classes: C, more than the neighbours. distance: "squared" or "plain". dtype: of the pixels.
        bounded: whether the logits are made by products, which the squared distance of short vectors allows.
    """
    if kernels_missing("seg.kernels.triton.loss", device):
        return False
    generator = torch.Generator().manual_seed(0)
    classes = F.normalize(torch.randn(num_classes, dim, generator=generator), dim=1)
    labels = torch.randint(-1, num_classes, (1, 3000), generator=generator)
    pixels = F.normalize(classes[labels.clamp(min=0)] + 0.3 * torch.randn(1, 3000, dim, generator=generator), dim=2).movedim(2, 1)
    length = 2.0 if distance == "squared" and not bounded else 1.0  # of vectors whose logits are too far apart for products
    objective = Objective(num_neighbours, distance, 20.0, -1, int((labels >= 0).sum()))
    problem = (length * pixels).to(device, dtype), (length * classes).to(device), labels.to(device), objective, True

    def results(implementation: Implementation) -> tuple[torch.Tensor, ...]:
        result = implementation(*problem)
        return result.loss, *result.gradients

    return kernels_agree(
        lambda: results(triton_loss), lambda: results(chunked_loss), where=str(device), what="the loss", tolerance=_TOLERANCE
    )
