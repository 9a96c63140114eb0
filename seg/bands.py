"""Loss and prediction straight from the stride-4 features, in bands of output rows: no full-resolution output exists.

Bilinear upsampling makes every output row of two feature rows. So a band of output rows needs a few feature rows and, while it exists,
gives its part of the loss and of the gradient, or its predictions.

Shapes: N images, F features (D of pixel embeddings, C of class scores), h×w positions of the features, H×W pixels;
r rows of a band, made of k feature rows.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch

from seg.deeplab import resize
from seg.neighbours import computation_dtype, full_precision_matmul, pixels_per_chunk
from seg.objective import LossAndGradients, total_weight
from seg.one_pass import one_pass_loss
from shared.constants import IGNORE_INDEX
from shared.errors import InputError

Loss = Callable[..., torch.Tensor]
Pointwise = Callable[[torch.Tensor], torch.Tensor]


class Band(NamedTuple):
    """Output rows as a linear map of the feature rows around them."""

    rows: slice
    """r rows of the output."""
    source: slice
    """k rows of the features."""
    weights: torch.Tensor
    """(r, k) float64, at most two of a row are not zero, and they add up to 1."""

    def upsample(self, features: torch.Tensor, width: int) -> torch.Tensor:
        """The feature rows `source` (N, F, k, w) → these rows of the output (N, F, r, width), float32 or better."""
        features = features.to(computation_dtype(features))
        with full_precision_matmul(features.device.type):
            columns = resize(features, (features.shape[2], width))  # columns first, as k is less than r
            return self.weights.to(features.dtype) @ columns


def bands(features: torch.Tensor, height: int, rows: int) -> Iterator[Band]:
    """The output's rows, `rows` at a time, from the first to the last of `height`; the last band may have fewer."""
    for start in range(0, height, rows):
        yield _band(features, height, start, min(start + rows, height))


def upsample_rows(features: torch.Tensor, size: tuple[int, ...] | torch.Size, start: int, stop: int) -> torch.Tensor:
    """Rows [start, stop) of `seg.deeplab.resize(features, size)`, within rounding, from the few feature rows that they need.

    Args:
        features: (N, F, h, w); half precision is computed in float32.
        size: (H, W) of the whole output.
        start, stop: 0 ≤ start < stop ≤ H.

    Returns:
        (N, F, stop − start, W), float64 for float64 features and else float32.
    """
    band = _band(features, size[0], start, stop)
    return band.upsample(features[:, :, band.source], size[1])


def loss_in_bands(
    loss: Loss,
    features: torch.Tensor,
    *class_embeddings: torch.Tensor,
    label_map: torch.Tensor,
    rows: int,
    finish: Pointwise,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """`loss(finish(resize(features, (H, W))), *class_embeddings, label_map)`, within rounding, in the memory of a band.

    Beside the features and their gradient there is one band at a time: its outputs, its loss and its gradient, which is brought back to
    the features at once.

    Args:
        loss: (outputs (N, F, r, W), *class_embeddings, labels (N, r, W)) → mean over the pixels that are not `IGNORE_INDEX`,
            weighted where there are `class_weights`.
        features: (N, F, h, w) at stride 4.
        *class_embeddings: (C, D) for the losses that take them.
        label_map: (N, H, W) integer.
        rows: of a band, ≥ 1.
        finish: what follows the upsampling, pixel by pixel: `finish` of the segmenter.
        class_weights: (C,) on the device of the labels: those that `loss` has, so that bands add up in the right proportion.

    Returns:
        scalar, float64 for float64 features and else float32. Zero, with zero gradients, where no pixel is valid.

    Raises:
        InputError: fewer than 1 row; or of the loss.
    """
    if rows < 1:
        raise InputError(f"a band cannot have {rows} rows; give at least 1")
    return one_pass_loss(partial(_loss_and_gradients, loss, label_map, class_weights, rows, finish), features, *class_embeddings)


def predict_in_bands(classify: Pointwise, features: torch.Tensor, size: tuple[int, ...] | torch.Size) -> torch.Tensor:
    """`classify(resize(features, size))`, ties within rounding aside, without the full-resolution tensor.

    Args:
        classify: outputs (N, F, r, W) → class ids (N, r, W) int64.
        features: (N, F, h, w) at stride 4.
        size: (H, W).

    Returns:
        (N, H, W) int64.
    """
    height, width = size
    ids = torch.empty((len(features), height, width), dtype=torch.int64, device=features.device)
    rows = _prediction_rows(features, height, width)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        ids[:, start:stop] = classify(upsample_rows(features, size, start, stop))
    return ids


def _prediction_rows(features: torch.Tensor, height: int, width: int) -> int:
    """As many rows as suit the device's memory, and at least those of one feature row: fewer would upsample the same columns twice."""
    pixels = pixels_per_chunk(features.shape[1], features.device)
    return max(pixels // (len(features) * width), math.ceil(height / features.shape[2]))


def _band(features: torch.Tensor, height: int, start: int, stop: int) -> Band:
    scale, last = features.shape[2] / height, features.shape[2] - 1
    top, bottom = (min(max((row + 0.5) * scale - 0.5, 0), last) for row in (start, stop - 1))
    source = slice(math.floor(top), math.ceil(bottom) + 1)
    rows = torch.arange(start, stop, dtype=torch.float64, device=features.device)
    positions = ((rows + 0.5) * scale - 0.5).clamp_(0, last)  # centres of the output rows, in feature rows
    taps = torch.arange(source.start, source.stop, dtype=torch.float64, device=features.device)
    return Band(slice(start, stop), source, (1 - (positions[:, None] - taps).abs()).clamp_min_(0))


def _loss_and_gradients(
    loss: Loss,
    label_map: torch.Tensor,
    class_weights: torch.Tensor | None,
    rows: int,
    finish: Pointwise,
    inputs: tuple[torch.Tensor, ...],
    wants_gradients: bool,
) -> LossAndGradients:
    features, *class_embeddings = inputs
    dtype = computation_dtype(*inputs)
    all_bands = list(bands(features, label_map.shape[1], rows))
    weights = torch.stack([total_weight(label_map[:, band.rows], class_weights, IGNORE_INDEX) for band in all_bands]).tolist()
    total = features.new_zeros((), dtype=dtype)
    gradients = tuple(torch.zeros_like(tensor, dtype=dtype) for tensor in inputs) if wants_gradients else ()
    for band, weight in zip(all_bands, weights):
        if weight > 0:
            share = weight / sum(weights)
            leaves = [piece.detach().to(dtype) for piece in (features[:, :, band.source], *class_embeddings)]
            part = _part_of_band(loss, band, leaves, label_map[:, band.rows], finish, share, wants_gradients)
            total += part.loss
            for whole, gradient in zip(gradients, part.gradients):
                piece = whole[:, :, band.source] if whole is gradients[0] else whole
                piece += gradient
    return LossAndGradients(total, gradients)


def _part_of_band(
    loss: Loss, band: Band, inputs: list[torch.Tensor], labels: torch.Tensor, finish: Pointwise, share: float, wants_gradients: bool
) -> LossAndGradients:
    """`share` of the band's mean loss, and the gradients by `inputs`. A function of its own, so that a band is gone before the next."""
    # precision and autocast are set here for the backward pass, whose products would else follow the caller's settings
    with torch.set_grad_enabled(wants_gradients), full_precision_matmul(labels.device.type):
        features, *class_embeddings = leaves = [tensor.requires_grad_(wants_gradients) for tensor in inputs]
        part = share * loss(finish(band.upsample(features, labels.shape[2])), *class_embeddings, labels)
        return LossAndGradients(part.detach(), torch.autograd.grad(part, leaves) if wants_gradients else ())
