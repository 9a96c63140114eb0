"""How much the images of one layout differ from each other: the mean distance of every two of them.

K images of one layout, H × W pixels.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import InputError
from shared.fid.features import EncoderFeatures, torchvision_weights
from shared.precision import full_precision

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Diversity:
    """Mean pairwise distance, averaged over layouts.

    Attributes:
        title: "LPIPS", or "PD-seg" in the features of our own encoder, which compares with no LPIPS.
        deviation: between layouts.
        layouts: how many.
        samples: K.
    """

    title: str
    value: float
    deviation: float
    layouts: int
    samples: int

    def line(self) -> str:
        """For a reader."""
        return (
            f"diversity, {self.title} of {self.samples} images of each of {self.layouts} layouts: {self.value:.4f} ± {self.deviation:.4f}"
        )


class PairDistance(nn.Module):
    """A distance between two images that looks at what stands where.

    Attributes:
        title: what it is called.
        explanation: one sentence.
    """

    title: str
    explanation: str

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """`forward`, with all digits of float32 on every device."""
        with full_precision():
            distances: Tensor = super().__call__(a, b)
        return distances

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(N, 3, H, W) and (N, 3, H, W) float RGB in [0, 1] -> (N,)."""
        raise NotImplementedError


class Lpips(PairDistance):
    """LPIPS with AlexNet (Zhang et al. 2018, arXiv 1801.03924), as torchmetrics has it."""

    title = "LPIPS"
    explanation = "Mean LPIPS (AlexNet) between every two images of one layout."

    def __init__(self) -> None:
        super().__init__()
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # takes seconds to import, and is an extra

        self.metric = LearnedPerceptualImagePatchSimilarity("alex", normalize=True)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        # pair by pair, as the metric gives the mean of a batch alone
        return torch.stack([self.metric(one[None], other[None]) for one, other in zip(a, b)])


class EncoderDistance(PairDistance):
    """The form of LPIPS without its learned weights, in our own encoder: every pixel's features have unit length, and the squared
    differences are averaged over pixels and stages."""

    title = "PD-seg"

    def __init__(self, encoder: Path) -> None:
        super().__init__()
        self.features = EncoderFeatures(encoder)
        self.explanation = f"Mean distance, in the pixels' features of the encoder {encoder}, between every two images of one layout."

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        ours, others = (self.features.network(images) for images in (a, b))
        stages = [(F.normalize(one) - F.normalize(other)).square().sum(1).mean((1, 2)) for one, other in zip(ours, others)]
        return torch.stack(stages).mean(0)


def build_pair_distance(encoder: Path | None, device: torch.device) -> PairDistance | None:
    """LPIPS where torchmetrics and AlexNet's weights are at hand; else the same form in an encoder; None without either."""
    try:
        # asked first: the metric would download the weights by itself
        torchvision_weights("alexnet").find(download=False)
        return Lpips().to(device)
    except (InputError, ImportError, ModuleNotFoundError) as error:
        log.info("no LPIPS: %s", error)
    return None if encoder is None else EncoderDistance(encoder).to(device).eval().requires_grad_(False)


def diversity(layouts: Iterable[Tensor], distance: PairDistance) -> Diversity:
    """The mean pairwise distance of every layout's images, and its mean and deviation over layouts.

    Args:
        layouts: (K, 3, H, W) uint8 each, with one K ≥ 2; sizes may differ.
        distance: on the device to compute on.
    """
    means, samples = [], 0
    device = next(distance.parameters()).device
    for images in layouts:
        first, second = torch.tensor(list(combinations(range(samples := len(images)), 2))).T
        ready = images.to(device).float() / 255
        with torch.no_grad():
            means.append(distance(ready[first], ready[second]).mean().item())
    assert means and samples > 1, "a distance needs two images of a layout"
    values = torch.tensor(means, dtype=torch.float64)
    return Diversity(distance.title, values.mean().item(), values.std(correction=0).item(), len(means), samples)
