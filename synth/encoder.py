"""The style encoder: the mean and variance of the style vector that an image stands for (Park et al., 2019, Fig. 14)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import InputError
from synth.networks.spectral import SpectralConv2d, initialise

MULTIPLES = (1, 2, 4, 8, 8, 8)
"""Channels of the layers, in units of `width`; further layers keep the last."""

LAST_SIZE = 4
"""Height and width of the features that the two heads read."""


class StyleEncoder(nn.Module):
    """Stride-2 convolutions down to 4×4, then two linear heads.

    image_size: side of the square that images are resized to, 4·2^k: k convolutions (published: 256, six).
    width: channels of the first convolution. z_dim: length of the style vector.
    """

    def __init__(self, *, image_size: int = 256, width: int = 64, z_dim: int = 256) -> None:
        super().__init__()
        num_layers = round(math.log2(max(image_size, 1) / LAST_SIZE))
        if num_layers < 1 or image_size != LAST_SIZE * 2**num_layers:
            raise InputError(f"the style encoder's image size must be 8, 16, 32, …, a power of two; got {image_size}")
        self.image_size, self.num_layers = image_size, num_layers
        channels = [3, *(width * MULTIPLES[min(layer, len(MULTIPLES) - 1)] for layer in range(num_layers))]
        for layer in range(num_layers):
            # no bias: the normalisation behind it takes it out again
            convolution = SpectralConv2d(channels[layer], channels[layer + 1], 3, stride=2, padding=1, bias=False)
            self.add_module(f"layer{layer + 1}", nn.Sequential(convolution, nn.InstanceNorm2d(channels[layer + 1])))
        features = channels[-1] * LAST_SIZE**2
        self.fc_mu = nn.Linear(features, z_dim)
        self.fc_var = nn.Linear(features, z_dim)
        initialise(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: (N, 3, H, W) in [−1, 1], any size. Returns the mean and the log-variance of z, each (N, z_dim)."""
        # the linear heads read features of one size, whatever the images have
        x = F.interpolate(images, (self.image_size, self.image_size), mode="bilinear")
        for layer in range(self.num_layers):
            x = F.leaky_relu(self.get_submodule(f"layer{layer + 1}")(x), 0.2)
        x = x.flatten(1)
        return self.fc_mu(x), self.fc_var(x)


def sample_style(mu: Tensor, logvar: Tensor) -> Tensor:
    """A differentiable draw z = μ + ε·exp(logvar / 2), from torch's global generator."""
    return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
