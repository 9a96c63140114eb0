"""Whether the Triton kernels can be relied on here: "auto" asks before it takes them."""

from functools import cache

import torch
import torch.nn.functional as F

from seg.losses_chunked import chunked_loss
from seg.losses_triton import triton_loss
from seg.objective import Implementation, Objective
from shared.kernels import kernels_agree, kernels_missing

_TOLERANCE = 1e-3  # relative; the kernels' gradients are good to about 4e-4


@cache
def triton_agrees(device: torch.device, select: bool) -> bool:
    """Whether loss and gradients of a small problem are those of plain torch on this device; checked once, in the seconds of compilation.

    Args:
        device: of the pixels.
        select: of the loss over the nearest classes, or of the one over all.
    """
    if device.type != "cuda" or kernels_missing("seg.kernels_triton", device):
        return False
    generator = torch.Generator().manual_seed(0)
    classes = F.normalize(torch.randn(200, 12, generator=generator), dim=1)
    labels = torch.randint(-1, 200, (1, 3000), generator=generator)
    pixels = F.normalize(classes[labels.clamp(min=0)] + 0.3 * torch.randn(1, 3000, 12, generator=generator), dim=2).movedim(2, 1)
    objective = Objective(8 if select else None, "squared", 20.0, -1, int((labels >= 0).sum()))
    problem = pixels.to(device), classes.to(device), labels.to(device), objective, True

    def results(implementation: Implementation) -> tuple[torch.Tensor, ...]:
        result = implementation(*problem)
        return result.loss, *result.gradients

    return kernels_agree(
        lambda: results(triton_loss), lambda: results(chunked_loss), where=str(device), what="the loss", tolerance=_TOLERANCE
    )
