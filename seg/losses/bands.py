"""A loss straight from the stride-4 features, in bands of output rows: no full-resolution output exists.

While a band exists, it gives its part of the loss and of the gradient, which is brought back to the features at once.

Shapes: N images, F features (D of pixel embeddings, C of class scores), h×w positions of the features, H×W pixels; r rows of a band.
"""

from collections.abc import Callable
from functools import partial

import torch

from seg.chunks import computation_dtype, full_precision_matmul
from seg.losses.objective import LossAndGradients, label_range, one_pass_loss, require_classes, weight_of_labels
from seg.networks.upsampling import Band, Pointwise, bands
from shared.constants import IGNORE_INDEX
from shared.errors import InputError

Loss = Callable[..., torch.Tensor]


def loss_in_bands(
    loss: Loss,
    features: torch.Tensor,
    *class_embeddings: torch.Tensor,
    label_map: torch.Tensor,
    rows: int,
    finish: Pointwise,
    class_weights: torch.Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> torch.Tensor:
    """`loss(finish(resize(features, (H, W))), *class_embeddings, label_map)`, within rounding, in the memory of a band.

    Beside the features and their gradient there is one band at a time: its outputs, its loss and its gradient, which is brought back to
    the features at once.

    Args:
        loss: (outputs (N, F, r, W), *class_embeddings, labels (N, r, W), total_weight=…) → mean over the pixels that are not ignored,
            weighted where there are `class_weights`; see `neighbour_cross_entropy`.
        features: (N, F, h, w) at stride 4.
        *class_embeddings: (C, D) for the losses that take them.
        label_map: (N, H, W) integer.
        rows: of a band, ≥ 1.
        finish: what follows the upsampling, pixel by pixel: `finish` of the segmenter.
        class_weights: (C,) on the device of the labels: those that `loss` has, so that bands add up in the right proportion.
        ignore_index: that of `loss`.

    Returns:
        scalar, float64 for float64 features and else float32. Zero, with zero gradients, where no pixel is valid.

    Raises:
        InputError: fewer than 1 row, a label outside [0, C); or of the loss.
    """
    if rows < 1:
        raise InputError(f"a band cannot have {rows} rows; give at least 1")
    return one_pass_loss(
        partial(_loss_and_gradients, loss, label_map, class_weights, ignore_index, rows, finish), features, *class_embeddings
    )


def _loss_and_gradients(
    loss: Loss,
    label_map: torch.Tensor,
    class_weights: torch.Tensor | None,
    ignore_index: int,
    rows: int,
    finish: Pointwise,
    inputs: tuple[torch.Tensor, ...],
    wants_gradients: bool,
) -> LossAndGradients:
    features, *class_embeddings = inputs
    dtype = computation_dtype(*inputs)
    all_bands = list(bands(features, label_map.shape[1], rows))
    num_classes = len(class_embeddings[0]) if class_embeddings else features.shape[1]
    # one list for all bands: reading them one by one would let a GPU wait at each
    parts = [label_map[:, band.rows] for band in all_bands]
    weights_and_ranges = [(weight_of_labels(part, class_weights, ignore_index), *label_range(part, ignore_index)) for part in parts]
    weights, lows, highs = zip(*torch.stack([torch.stack([number.double() for number in some]) for some in weights_and_ranges]).tolist())
    require_classes(min(lows), max(highs), num_classes, ignore_index)
    total = features.new_zeros((), dtype=dtype)
    gradients = tuple(torch.zeros_like(tensor, dtype=dtype) for tensor in inputs) if wants_gradients else ()
    for band, weight in zip(all_bands, weights):
        # also keeps 0 / 0 out where nothing is valid
        if weight > 0:
            # a mean of means is the mean only if each band counts by its share of the weight
            share = weight / sum(weights)
            leaves = [piece.detach().to(dtype) for piece in (features[:, :, band.source], *class_embeddings)]
            part_loss = partial(loss, total_weight=weight)
            part = _part_of_band(part_loss, band, leaves, label_map[:, band.rows], finish, share, wants_gradients)
            total += part.loss
            # neighbouring bands read the same feature rows, so gradients are added and never written over
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
