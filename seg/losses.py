"""Losses of the segmentation network, free of pixels × classes.

Shapes: N images, P pixels, V valid pixels, C classes, D embedding size, K neighbours.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from seg.losses_chunked import chunked_cross_entropy
from seg.losses_reference import reference_cross_entropy
from seg.neighbours import computation_dtype, nearest_classes, require_neighbours
from shared.constants import IGNORE_INDEX
from shared.errors import InputError

IMPLEMENTATIONS = {
    "auto": chunked_cross_entropy,
    "reference": reference_cross_entropy,
    "chunked": chunked_cross_entropy,
}


def neighbour_cross_entropy(
    pixel_embeddings: torch.Tensor,
    class_embeddings: torch.Tensor,
    label_map: torch.Tensor,
    *,
    num_neighbours: int,
    temperature: float = 0.05,
    distance: str = "squared",
    scale: float = 20.0,
    ignore_index: int = IGNORE_INDEX,
    impl: str = "auto",
    search: str = "auto",
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
        ignore_index: label of the pixels that are left out, before the search.
        impl: "reference", "chunked", or "auto", the fastest there is.
        search: backend of `seg.neighbours.nearest_classes`: "torch", "faiss" or "auto".

    Returns:
        scalar ≥ 0, float64 for float64 embeddings and else float32. Zero, with zero gradients, where no pixel is valid.

    Raises:
        InputError: a label outside [0, C), k outside [1, C], or an unknown choice.
        ValueError: shapes that do not belong together.
    """
    _check_choice("loss implementation", impl, IMPLEMENTATIONS)
    _check_choice("distance", distance, ("squared", "plain"))
    _check_positive("temperature", temperature)
    _check_positive("scale", scale)
    require_neighbours(num_neighbours, len(class_embeddings))
    pixels, labels = _flatten(pixel_embeddings, class_embeddings, label_map)
    rows = (labels != ignore_index).nonzero().squeeze(1)
    if rows.numel() == 0:
        return _connected_zero(pixels, class_embeddings)
    targets = labels[rows].long()
    _check_targets(targets, len(class_embeddings), ignore_index)
    sharpness = 1 / temperature if distance == "squared" else scale
    return IMPLEMENTATIONS[impl](
        pixels, class_embeddings, rows, targets, num_neighbours=num_neighbours, distance=distance, sharpness=sharpness, search=search
    )


def class_cross_entropy(logits: torch.Tensor, label_map: torch.Tensor, *, ignore_index: int = IGNORE_INDEX) -> torch.Tensor:
    """Mean cross-entropy over all classes: the loss of the softmax baseline, which needs memory for pixels × classes.

    Args:
        logits: (N, C, H, W); half precision is computed in float32.
        label_map: (N, H, W) integer, ids in [0, C) or `ignore_index`.

    Returns:
        scalar ≥ 0. Zero, with zero gradients, where no pixel is valid.

    Raises:
        InputError: a label outside [0, C).
    """
    valid = label_map != ignore_index
    if not valid.any():
        return _connected_zero(logits)
    _check_targets(label_map[valid], logits.shape[1], ignore_index)
    return F.cross_entropy(logits.to(computation_dtype(logits)), label_map.long(), ignore_index=ignore_index)


def class_separation(class_embeddings: torch.Tensor, margin: float = 0.2) -> torch.Tensor:
    """Mean over the classes of max(0, margin − distance to the nearest other class): the max-margin regulariser (ESSNet, Eq. 7).

    Needs memory for C·D numbers and one tile of the search: the gradient runs through the C nearest pairs alone.

    Args:
        class_embeddings: (C, D), of any norm; the paper's are unit vectors.
        margin: smallest wanted distance; 0.2 is an angle of 11.5° on the unit sphere.

    Returns:
        scalar in [0, margin]. Embeddings that coincide count with the full margin and get no gradient from each other; one class gives 0.
    """
    classes = class_embeddings.to(computation_dtype(class_embeddings))
    if len(classes) < 2:
        return _connected_zero(classes)
    nearest, _ = nearest_classes(classes, classes, 2)
    itself = torch.arange(len(classes), device=classes.device)
    nearest_other = torch.where(nearest[:, 0] == itself, nearest[:, 1], nearest[:, 0])
    distances = torch.linalg.vector_norm(classes - F.embedding(nearest_other, classes), dim=1)
    return F.relu(margin - distances).mean()


def _flatten(pixel_embeddings: torch.Tensor, class_embeddings: torch.Tensor, label_map: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (P, D) and labels (P,) of either accepted shape."""
    pixels, labels = pixel_embeddings, label_map
    if pixel_embeddings.ndim == 4:
        pixels = pixel_embeddings.movedim(1, -1)
    if pixels.shape[:-1] != labels.shape or pixels.shape[-1:] != class_embeddings.shape[1:]:
        raise ValueError(
            f"pixel embeddings {tuple(pixel_embeddings.shape)}, class embeddings {tuple(class_embeddings.shape)} and label map "
            f"{tuple(label_map.shape)} do not belong together; expected (P, D), (C, D), (P,) or (N, D, H, W), (C, D), (N, H, W)"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"the label map holds {labels.dtype}; expected integers")
    return pixels.reshape(-1, pixels.shape[-1]), labels.reshape(-1)


def _connected_zero(*tensors: torch.Tensor) -> torch.Tensor:
    """Zero that depends on the tensors, so that backward() gives them gradients of zero. Empty slices ignore infinities."""
    total = sum(tensor[:0].sum(dtype=computation_dtype(*tensors)) for tensor in tensors)
    assert isinstance(total, torch.Tensor), "sum of at least one tensor"
    return total


def _check_choice(what: str, given: str, known: Iterable[str]) -> None:
    if given not in known:
        raise InputError(f"unknown {what} {given!r}; choose one of {', '.join(known)}")


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name} is {value}; it must be above 0")


def _check_targets(targets: torch.Tensor, num_classes: int, ignore_index: int) -> None:
    lowest, highest = (int(value) for value in torch.aminmax(targets))
    if lowest < 0 or highest >= num_classes:
        raise InputError(
            f"label {lowest if lowest < 0 else highest} is outside the {num_classes} classes; "
            f"expected 0 to {num_classes - 1}, or {ignore_index} for ignored pixels"
        )
