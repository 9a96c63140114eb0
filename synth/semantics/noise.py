"""Noise beside the semantics, so that one layout has many images (OASIS): a vector per image, per region of a class, or per pixel.

A convolution is linear, so noise joins the semantics without a map: vectors join the ids, of which there are then as many as pairs of class
and vector that occur; noise per pixel is convolved by itself and added. N label maps, Z channels of the noise, M vectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.run.training import seed_of
from synth.kernels.rows import Maps
from synth.semantics.layout import DenseLayout, GatheredLayout, Layout, SemanticPyramid, convolve_twice, numeric_padding

NOISE_KINDS = ("image", "region", "pixel")


@dataclass(frozen=True, eq=False)
class Noise:
    """vectors: (M, Z). owner: (N, H, W) int64 in [0, M), the vector of every pixel. None: M = N·H·W, a vector of its own for each."""

    vectors: Tensor
    owner: Tensor | None

    def beside(self, pyramid: SemanticPyramid) -> SemanticPyramid:
        """The semantics of label maps with the noise as further channels, after theirs."""
        full_size = pyramid.pooled(0)
        if self.owner is None:
            noise_map = self.vectors.view(full_size.batch_size, *full_size.size, -1).permute(0, 3, 1, 2)
            return SemanticPyramid(SumLayout(full_size, noise_map), pyramid.classes)
        assert isinstance(full_size, DenseLayout | GatheredLayout), "semantics of label maps"
        return SemanticPyramid(full_size.with_vectors(self.vectors, self.owner), pyramid.classes)


def draw_noise(kind: str, channels: int, classes: Tensor, seed: int | None = None) -> Noise:
    """Noise N(0, 1).

    kind: image (one vector, as published), region (one for all pixels of a class in an image) or pixel.
    classes: (N, H, W), what stands at every pixel.
    seed: the noise is a function of it, the same on every device. None: torch's global generator.
    """
    if kind == "pixel":
        return Noise(_normal(classes.numel(), channels, classes.device, seed), None)
    owner = torch.arange(len(classes), device=classes.device).view(-1, 1, 1).expand_as(classes)
    count = len(classes)
    if kind == "region":
        # `unique` sorts, so which region has which vector depends on the layout alone
        _, owner = (owner * (int(classes.max()) + 1) + classes).unique(return_inverse=True)
        count = int(owner.max()) + 1
    return Noise(_normal(count, channels, classes.device, seed), owner)


def seeded_noise(kind: str, channels: int, classes: Tensor, seed: int, own: Mapping[int, int]) -> Noise:
    """Noise N(0, 1) that stays where it is when other classes come or go, as in a layout that is painted on.

    kind, channels, classes: as in `draw_noise`.
    seed: of the noise, for any layout. own: class -> the seed of its noise, in place of `seed`.
    """
    if kind == "pixel":
        vectors = _normal(classes.numel(), channels, classes.device, seed)
        for class_id, other in own.items():
            vectors = torch.where(classes.view(-1, 1) == class_id, _normal(len(vectors), channels, classes.device, other), vectors)
        return Noise(vectors, None)
    present, owner = classes.unique(return_inverse=True)
    seeds = [(own.get(class_id, seed), class_id) for class_id in present.tolist()]
    drawn = [_normal(1, channels, classes.device, seed_of(*numbers) if kind == "region" else numbers[0]) for numbers in seeds]
    return Noise(torch.cat(drawn), owner)


def _normal(count: int, channels: int, device: torch.device, seed: int | None) -> Tensor:
    if seed is None:
        return torch.randn(count, channels, device=device)
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed)).to(device)


def resample(fixed: Noise, fresh: Noise, classes: Tensor, chosen: Sequence[int]) -> Noise:
    """`fixed`, except for the pixels of the chosen classes, which have `fresh`. Both of one kind and of the same layouts (N, H, W)."""
    changes = torch.isin(classes, torch.tensor(chosen, device=classes.device))
    if fixed.owner is None or fresh.owner is None:
        return Noise(torch.where(changes.view(-1, 1), fresh.vectors, fixed.vectors), None)
    owner = torch.where(changes, fresh.owner + len(fixed.vectors), fixed.owner)
    return Noise(torch.cat([fixed.vectors, fresh.vectors]), owner)


class SumLayout(Layout):
    """A layout and further channels that exist as a map (N, Z, height, width)."""

    def __init__(self, layout: Layout, further: Tensor) -> None:
        self.layout, self.further = layout, further
        self.batch_size, self.size, self.width = layout.batch_size, layout.size, layout.width + further.shape[1]

    def convolve(self, conv: nn.Conv2d) -> Tensor:
        kernel = conv.weight[:, self.layout.width : self.width]
        return self.layout.convolve(conv) + F.conv2d(self.further, kernel, None, conv.stride, numeric_padding(conv))

    def modulation(self, first: nn.Conv2d, kernel: Tensor, bias: Tensor) -> Maps:
        return Maps(*convolve_twice(self, first, kernel, bias).chunk(2, dim=1))

    def resized(self, height: int, width: int) -> "SumLayout":
        return SumLayout(self.layout.resized(height, width), F.interpolate(self.further, (height, width), mode="nearest"))

    def pooled(self) -> "SumLayout":
        return SumLayout(self.layout.pooled(), DenseLayout(self.further).pooled().semantic_map)
