"""Problems for the tests of the losses, and both losses behind one name."""

from typing import Any

import torch
import torch.nn.functional as F

from seg.losses import exact_cross_entropy, neighbour_cross_entropy
from seg.losses.cross_entropy import IMPLEMENTATIONS

FAST_IMPLS = [name for name in IMPLEMENTATIONS if name != "triton"]  # which needs CUDA, see test_triton.py
IMPLS = ["reference", *FAST_IMPLS]
DISTANCES = ["squared", "plain"]


def problem(
    num_pixels: int, num_classes: int, dim: int, *, unit: bool = True, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels near the embedding of their class, in float64, as in the middle of a training; some are ignored."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(num_classes, dim, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (num_pixels,), generator=generator)
    pixels = classes[labels] + 0.5 * torch.randn(num_pixels, dim, generator=generator, dtype=torch.float64)
    labels[torch.rand(num_pixels, generator=generator) < 0.2] = -1
    if unit:
        pixels, classes = F.normalize(pixels, dim=1), F.normalize(classes, dim=1)
    return pixels, classes, labels


def cross_entropy(
    pixels: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor, *, num_neighbours: int | None = None, **options: Any
) -> torch.Tensor:
    """Either loss: `num_neighbours` None is the one over all classes."""
    if num_neighbours is None:
        return exact_cross_entropy(pixels, classes, labels, **options)
    return neighbour_cross_entropy(pixels, classes, labels, num_neighbours=num_neighbours, **options)


def value_and_gradients(
    pixels: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor, **options: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    pixels, classes = pixels.detach().clone().requires_grad_(), classes.detach().clone().requires_grad_()
    loss = cross_entropy(pixels, classes, labels, **options)
    loss.backward()
    assert pixels.grad is not None and classes.grad is not None
    return loss.detach(), pixels.grad, classes.grad


def relative_error(result: torch.Tensor, truth: torch.Tensor) -> float:
    return float((result.double() - truth).norm() / truth.norm().clamp_min(1e-30))
