"""Cross-entropy of the segmentation network, free of pixels × classes: its arguments are checked here, and an implementation is picked.

Shapes: N images, P pixels, S pixels of an image, C classes, D embedding size, K neighbours.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F

from seg.chunks import Chunk, chunks_of, computation_dtype, pixels_per_chunk, share_chunks
from seg.losses.chunked import chunked_loss
from seg.losses.numba import numba_loss
from seg.losses.objective import (
    Implementation,
    LossAndGradients,
    Objective,
    connected_zero,
    label_range,
    one_pass_loss,
    require_classes,
    weight_of_labels,
)
from seg.losses.reference import reference_cross_entropy
from seg.losses.triton import agreeing_triton_loss, triton_loss
from seg.neighbours.numba import numba_obstacle
from seg.neighbours.search import SEARCHES, require_neighbours
from shared.constants import IGNORE_INDEX
from shared.errors import InputError, choose

IMPLEMENTATIONS: dict[str, Implementation] = {"chunked": chunked_loss, "numba": numba_loss, "triton": triton_loss}
MOST_COMPILED_NEIGHBOURS = 128  # above, plain torch selects them faster
LOSS_IMPLEMENTATIONS = ("auto", "reference", *IMPLEMENTATIONS)


def neighbour_cross_entropy(
    pixel_embeddings: torch.Tensor,
    class_embeddings: torch.Tensor,
    label_map: torch.Tensor,
    *,
    num_neighbours: int,
    temperature: float = 0.05,
    distance: str = "squared",
    scale: float = 20.0,
    class_weights: torch.Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    impl: str = "auto",
    search: str = "auto",
    total_weight: float | None = None,
) -> torch.Tensor:
    """Mean cross-entropy over the nearest classes of each pixel and its target (ESSNet, Eq. 4 and 6).

    For a pixel x with target y and the set η of its k nearest class embeddings, the loss is −log of the softmax of the logits over
    η ∪ {y}, at y. The union counts the target once, also when it is one of the nearest. The logits are
        squared:  −|x − μ|² / temperature      (the paper)
        plain:    −scale · |x − μ|             (the released code); its gradient at x = μ is taken as zero.

    Args:
        pixel_embeddings: (P, D) or (N, D, H, W), of any norm; float32, float64, bfloat16 or float16.
        class_embeddings: (C, D), of any norm.
        label_map: (P,) or (N, H, W) integer, ids in [0, C) or `ignore_index`.
        num_neighbours: k, 1 ≤ k ≤ C.
        temperature: > 0, for the squared distance.
        distance: "squared" or "plain".
        scale: > 0, for the plain distance.
        class_weights: (C,) ≥ 0: the mean is weighted, each pixel with the weight of its target. None: all pixels count alike.
        ignore_index: label of the pixels that are left out, before the search.
        impl: "reference", "chunked" (plain torch), "numba" (CPU), "triton" (CUDA), or "auto", the fastest there is.
        search: backend of `seg.neighbours.nearest_classes`, for the implementations that do not search themselves.
        total_weight: number of the pixels that are not ignored, or sum of their weights, where the caller has it; then labels are not
            checked. None: they are checked and counted.

    Returns:
        scalar ≥ 0, float64 for float64 embeddings and else float32. Zero, with zero gradients, where no pixel is valid.

    Raises:
        InputError: a label outside [0, C), k outside [1, C], or an unknown choice.
        ValueError: shapes that do not belong together.
    """
    require_neighbours(num_neighbours, len(class_embeddings))
    choose("search backend", search, SEARCHES)
    choose("loss implementation", impl, LOSS_IMPLEMENTATIONS)
    choose("distance", distance, ("squared", "plain"))
    _check_positive("temperature", temperature)
    _check_positive("scale", scale)
    pixels, labels = _by_image(pixel_embeddings, class_embeddings, label_map)
    num_classes = len(class_embeddings)
    if class_weights is not None:
        class_weights = _on(pixels.device, class_weights, num_classes, computation_dtype(pixels, class_embeddings))
    total = _total_weight(labels, num_classes, class_weights, ignore_index) if total_weight is None else total_weight
    # the mean would be 0 / 0; backward() still finds the inputs, with gradients of zero
    if total == 0:
        return connected_zero(pixels, class_embeddings)
    sharpness = 1 / temperature if distance == "squared" else scale
    # the K = C nearest are all classes: nothing to search
    objective = Objective(
        None if num_neighbours == num_classes else num_neighbours, distance, sharpness, ignore_index, total, search, class_weights
    )
    if impl == "reference":
        return reference_cross_entropy(pixels, class_embeddings, labels, objective)
    implementation = fastest(pixels.device, objective) if impl == "auto" else IMPLEMENTATIONS[impl]
    return one_pass_loss(partial(_compute, implementation, labels, objective), pixels, class_embeddings)


def exact_cross_entropy(
    pixel_embeddings: torch.Tensor,
    class_embeddings: torch.Tensor,
    label_map: torch.Tensor,
    *,
    temperature: float = 0.05,
    distance: str = "squared",
    scale: float = 20.0,
    class_weights: torch.Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    impl: str = "auto",
    total_weight: float | None = None,
) -> torch.Tensor:
    """Mean cross-entropy over all classes: what `neighbour_cross_entropy` approximates, and equals with k = C (ESSNet, Eq. 5).

    Streams over tiles of pixels × classes and stores none of them, so that its memory is that of the gradients.

    Args, returns and errors as `neighbour_cross_entropy`, without neighbours.
    """
    return neighbour_cross_entropy(
        pixel_embeddings,
        class_embeddings,
        label_map,
        num_neighbours=len(class_embeddings),
        temperature=temperature,
        distance=distance,
        scale=scale,
        class_weights=class_weights,
        ignore_index=ignore_index,
        impl=impl,
        total_weight=total_weight,
    )


def fastest(device: torch.device, objective: Objective) -> Implementation:
    """The implementation that "auto" stands for."""
    compiled = objective.num_neighbours is None or objective.num_neighbours <= MOST_COMPILED_NEIGHBOURS
    if device.type == "cpu" and compiled and not numba_obstacle():
        return numba_loss
    return agreeing_triton_loss if device.type == "cuda" else chunked_loss


def _compute(
    implementation: Implementation, labels: torch.Tensor, objective: Objective, inputs: tuple[torch.Tensor, ...], wants_gradients: bool
) -> LossAndGradients:
    pixels, class_embeddings = inputs
    return implementation(pixels, class_embeddings, labels, objective, wants_gradients)


def class_cross_entropy(
    logits: torch.Tensor,
    label_map: torch.Tensor,
    *,
    class_weights: torch.Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    total_weight: float | None = None,
) -> torch.Tensor:
    """Mean cross-entropy over all classes: the loss of the softmax baseline, which needs memory for pixels × classes.

    Args:
        logits: (N, C, H, W); half precision is computed in float32.
        label_map: (N, H, W) integer, ids in [0, C) or `ignore_index`.
        class_weights, total_weight: as in `neighbour_cross_entropy`.

    Returns:
        scalar ≥ 0. Zero, with zero gradients, where no pixel is valid.

    Raises:
        InputError: a label outside [0, C).
    """
    dtype = computation_dtype(logits)
    if class_weights is not None:
        class_weights = _on(logits.device, class_weights, logits.shape[1], dtype)
    if total_weight is None:
        total_weight = _total_weight(label_map.flatten(1), logits.shape[1], class_weights, ignore_index)
    if total_weight == 0:
        return connected_zero(logits)
    # F.cross_entropy takes no 16-bit or 32-bit targets
    return F.cross_entropy(logits.to(dtype), label_map.long(), class_weights, ignore_index=ignore_index)


def _by_image(pixel_embeddings: torch.Tensor, class_embeddings: torch.Tensor, label_map: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Views: pixels (N, D, S) and labels (N, S) of either accepted shape."""
    as_map = pixel_embeddings.ndim == 4
    expected = (*label_map.shape[:1], *class_embeddings.shape[1:], *label_map.shape[1:])
    if pixel_embeddings.shape != expected or label_map.ndim != (3 if as_map else 1) or class_embeddings.ndim != 2:
        raise ValueError(
            f"pixel embeddings {tuple(pixel_embeddings.shape)}, class embeddings {tuple(class_embeddings.shape)} and label map "
            f"{tuple(label_map.shape)} do not belong together; expected (P, D), (C, D), (P,) or (N, D, H, W), (C, D), (N, H, W)"
        )
    if label_map.is_floating_point() or label_map.is_complex():
        raise ValueError(f"the label map holds {label_map.dtype}; expected integers")
    if as_map:
        return pixel_embeddings.flatten(2), label_map.flatten(1)
    return pixel_embeddings.T[None], label_map[None]


def _total_weight(labels: torch.Tensor, num_classes: int, class_weights: torch.Tensor | None, ignore_index: int) -> float:
    """Number of labels (N, S) that are not ignored, once those are known to be classes, or the sum of their weights. In chunks."""
    count = _count_valid(labels, num_classes, ignore_index)
    if class_weights is None:
        return float(count)
    chunks = chunks_of(labels, pixels_per_chunk(1, labels.device))
    weights = [weight_of_labels(labels[image, start:stop], class_weights, ignore_index) for image, start, stop in chunks]
    return float(torch.stack(weights).sum())


def _count_valid(labels: torch.Tensor, num_classes: int, ignore_index: int) -> int:
    """Number of labels (N, S) that are not ignored, once those are known to be classes. In chunks, so that no mask of all pixels exists."""

    def count_and_range(chunks: Sequence[Chunk]) -> torch.Tensor:
        parts = [labels[image, start:stop] for image, start, stop in chunks]
        counts = torch.stack([weight_of_labels(part, None, ignore_index) for part in parts])
        ranges = torch.stack([label_range(part, ignore_index).long() for part in parts])
        return torch.stack([counts.sum(), ranges[:, 0].amin(), ranges[:, 1].amax()])

    # images without pixels cannot be divided into chunks
    if labels.numel() == 0:
        return 0
    found = share_chunks(count_and_range, chunks_of(labels, pixels_per_chunk(1, labels.device)), labels.device)
    counts, lows, highs = torch.stack(found, dim=1).tolist()  # one list: reading numbers one by one would let a GPU wait at each
    require_classes(min(lows), max(highs), num_classes, ignore_index)
    return int(sum(counts))


def _on(device: torch.device, class_weights: torch.Tensor, num_classes: int, dtype: torch.dtype) -> torch.Tensor:
    if class_weights.shape != (num_classes,):
        raise ValueError(f"class weights {tuple(class_weights.shape)} do not belong to {num_classes} classes; expected ({num_classes},)")
    return class_weights.detach().to(device, dtype).contiguous()


def _check_positive(name: str, value: float) -> None:
    # not `value <= 0`, which nan would pass
    if not value > 0:
        raise InputError(f"{name} is {value}; it must be above 0")
