"""The multi-scale patch discriminator (Wang et al., 2018; Park et al., 2019): is this image real, given these semantics?

Letters: N label maps, B images (a multiple of N), S width of the semantics.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from synth.networks.spectral import SpectralConv2d, initialise
from synth.published import LabelConvention
from synth.semantics import Semantics
from synth.semantics.layout import Layout, SemanticPyramid

Features = list[list[Tensor]]
"""Per scale, full size first, the outputs of every layer; the last one is the prediction per patch."""

MAX_CHANNELS = 512  # as published


class PatchDiscriminator(nn.Module):
    """One scale: 4×4 convolutions over [semantics, image]. The first and the last have no normalisation."""

    def __init__(self, semantic_width: int, *, width: int = 64, num_layers: int = 4) -> None:
        super().__init__()
        self.semantic_width = semantic_width
        channels = [min(width * 2**layer, MAX_CHANNELS) for layer in range(num_layers)]
        self.model0 = nn.Sequential(nn.Conv2d(semantic_width + 3, width, 4, stride=2, padding=2), nn.LeakyReLU(0.2, inplace=True))
        for layer in range(1, num_layers):
            # stride 1 in the last of them, as published
            stride = 1 if layer == num_layers - 1 else 2
            # no bias: the normalisation behind it takes it out again
            convolution = SpectralConv2d(channels[layer - 1], channels[layer], 4, stride=stride, padding=2, bias=False)
            normalised = nn.Sequential(convolution, nn.InstanceNorm2d(channels[layer]))
            self.add_module(f"model{layer}", nn.Sequential(normalised, nn.LeakyReLU(0.2, inplace=True)))
        self.add_module(f"model{num_layers}", nn.Sequential(nn.Conv2d(channels[-1], 1, 4, padding=2)))

    def forward(self, layout: Layout, images: Tensor) -> list[Tensor]:
        """images: (B, 3, h, w). Returns the outputs of every layer, the last one (B, 1, patches high, patches wide)."""
        _, *later = self.children()
        features = [self._first_layer(layout, images)]
        for layer in later:
            features.append(layer(features[-1]))
        return features

    def _first_layer(self, layout: Layout, images: Tensor) -> Tensor:
        """The joint convolution in two parts: that of the semantics is the same for every image of a label map and computed once."""
        convolution, activation = self.model0
        assert isinstance(convolution, nn.Conv2d)
        image_kernel = convolution.weight[:, self.semantic_width :]
        seen = F.conv2d(images, image_kernel, None, convolution.stride, convolution.padding)
        both = seen.unflatten(0, (-1, layout.batch_size)) + layout.convolve(convolution)
        return activation(both.flatten(0, 1))


class MultiscaleDiscriminator(nn.Module):
    """The same network at several scales, each seeing half the size of the one before.

    width: channels of the first layer (ndf). num_layers: convolutions with activation; one more predicts.
    """

    published_labels = LabelConvention()
    """How a file in the published layout orders the semantic channels; set by loading one."""

    def __init__(self, semantics: Semantics, *, width: int = 64, num_scales: int = 2, num_layers: int = 4) -> None:
        super().__init__()
        for scale in range(num_scales):
            self.add_module(f"discriminator_{scale}", PatchDiscriminator(semantics.width, width=width, num_layers=num_layers))
        initialise(self)

    def forward(self, pyramid: SemanticPyramid, images: Tensor) -> Features:
        """images: (B, 3, H, W) in [−1, 1], B a multiple of the pyramid's batch: image i belongs to label map i mod N, so
        `torch.cat([fake, real])` is judged in one pass. Returns num_scales lists of num_layers + 1 tensors.
        """
        if images.shape[2:] != pyramid.size or len(images) % pyramid.batch_size:
            raise ValueError(
                f"{len(images)} images of {images.shape[2]}×{images.shape[3]} do not fit {pyramid.batch_size} label maps of "
                f"{pyramid.size[0]}×{pyramid.size[1]}"
            )
        features = []
        for scale, network in enumerate(self.children()):
            if scale:
                # as published, and like the pooling of the semantics
                images = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
            features.append(network(pyramid.pooled(scale), images))
        return features
