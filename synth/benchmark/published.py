"""The published form of SPADE's networks, written anew: the peer that everything is compared with.

A one-hot map goes into every SPADE layer, which resizes it for itself and convolves it; γ and β are two more convolutions; the
discriminator reads map and image, concatenated, of fakes and reals. The weights are those of this project's networks, key by key.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synth.discriminator import MultiscaleDiscriminator, PatchDiscriminator
from synth.layout import DenseLayout, Layout, SemanticPyramid
from synth.modulation import Maps
from synth.semantics import DenseOneHot, Semantics


class PublishedLayout(DenseLayout):
    """A one-hot map."""

    def modulation(self, first: nn.Conv2d, kernel: Tensor, bias: Tensor) -> Maps:
        """See `Layout`."""
        active = F.relu(self.convolve(first))
        scale, shift = (F.conv2d(active, *half, padding=1) for half in zip(kernel.chunk(2), bias.chunk(2)))
        return Maps(scale, shift)


class PublishedPyramid(SemanticPyramid):
    """Keeps the full size only: every layer resizes it for itself."""

    def at(self, height: int, width: int) -> Layout:
        """See `SemanticPyramid`."""
        full_size = self.pooled(0)
        assert isinstance(full_size, DenseLayout)
        return PublishedLayout(F.interpolate(full_size.semantic_map, (height, width), mode="nearest"))


class PublishedOneHot(DenseOneHot):
    """One-hot semantics for the published form."""

    def _pyramid(self, classes: Tensor, edges: Tensor | None, trained: bool) -> SemanticPyramid:
        return PublishedPyramid(super()._pyramid(classes, edges, trained).pooled(0))


class PublishedPatchDiscriminator(PatchDiscriminator):
    """One scale that convolves the concatenated map and image."""

    def _first_layer(self, layout: Layout, images: Tensor) -> Tensor:
        assert isinstance(layout, DenseLayout)
        maps = layout.semantic_map.repeat(len(images) // layout.batch_size, 1, 1, 1)
        return self.model0(torch.cat([maps, images], 1))


class PublishedDiscriminator(MultiscaleDiscriminator):
    """The published form at several scales."""

    def __init__(self, semantics: Semantics, *, width: int = 64, num_scales: int = 2, num_layers: int = 4) -> None:
        super().__init__(semantics, width=width, num_scales=num_scales, num_layers=num_layers)
        for scale, network in enumerate(list(self.children())):
            plain = PublishedPatchDiscriminator(semantics.width, width=width, num_layers=num_layers)
            plain.load_state_dict(network.state_dict())
            self.add_module(f"discriminator_{scale}", plain)
