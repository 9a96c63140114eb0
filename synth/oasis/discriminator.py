"""The segmentation discriminator of OASIS (Schönfeld et al., 2021): a U-Net that says for every pixel which class it is, or fake.

It sees the image alone. Its last layer gives a score per class, or a vector that is compared with the class embeddings: then nothing
in it knows how many classes there are. Letters: B images, C classes, D length of a class embedding.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.backbone import LITE0, frozen_lite0
from shared.encoder_file import load_encoder
from shared.errors import InputError
from synth.networks.spectral import SpectralConv2d, initialise
from synth.oasis.losses import Verdict

MULTIPLES = (1, 1, 2, 2, 4, 4)
"""Channels of the levels, in units of `width`, finest first."""


class ResidualBlock(nn.Module):
    """LeakyReLU, convolution, LeakyReLU, convolution, beside a 1×1 shortcut where the width changes; spectral normalisation alone."""

    def __init__(self, in_channels: int, out_channels: int, *, first: bool = False) -> None:
        super().__init__()
        self.first = first  # an image is not activated
        self.conv_0 = SpectralConv2d(in_channels, out_channels, 3, padding=1)
        self.conv_1 = SpectralConv2d(out_channels, out_channels, 3, padding=1)
        self.conv_s = SpectralConv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, size: torch.Size | None = None) -> Tensor:
        """size: (height, width) that the features are enlarged to on the way."""
        inner = x if self.first else F.leaky_relu(x, 0.2)
        shortcut = self.conv_s(x)
        if size is not None:
            inner, shortcut = (F.interpolate(features, size, mode="nearest") for features in (inner, shortcut))
        return shortcut + self.conv_1(F.leaky_relu(self.conv_0(inner), 0.2))


class DownPath(nn.Module):
    """Residual blocks, each followed by a halving. channels: of the levels, finest first."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.channels = [width * multiple for multiple in MULTIPLES[:depth]]
        pairs = zip([3, *self.channels], self.channels)
        self.blocks = nn.ModuleList(ResidualBlock(before, after, first=level == 0) for level, (before, after) in enumerate(pairs))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> features of every level, finest first, each half the size of the one before."""
        features = [images]
        for block in self.blocks:
            features.append(F.avg_pool2d(block(features[-1]), 2))
        return features[1:]


class FrozenEncoder(nn.Module):
    """In place of the way down: the features of a trained encoder that learns no more, each brought to its width.

    encoder: efficientnet_lite0, with its ImageNet weights, or the encoder file of a segmentation run.
    """

    def __init__(self, encoder: str | Path, width: int) -> None:
        super().__init__()
        self.encoder = frozen_lite0() if encoder == LITE0 else load_encoder(encoder)[0]
        self.encoder.requires_grad_(False)
        stages = self.encoder.channels
        assert isinstance(stages, tuple)
        self.channels = [width * MULTIPLES[min(level, len(MULTIPLES) - 1)] for level in range(len(stages))]
        self.project = nn.ModuleList(SpectralConv2d(before, after, 1) for before, after in zip(stages, self.channels))

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """The encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [−1, 1] -> features of every stage, finest first. Gradients flow to the images."""
        stages = self.encoder(images / 2 + 0.5)
        return [project(stage) for project, stage in zip(self.project, stages)]


class SegmentationDiscriminator(nn.Module):
    """The U-Net.

    num_classes: C, for a score per class. embedding_dim: D, for vectors instead; exactly one of the two is given. Vectors have one more
        number than a class embedding: the classes are 0 there, and `fake` starts as 1 there and 0 elsewhere. With the identity as class
        embeddings it is the dense discriminator.
    temperature: > 0, divides the products with the class embeddings.
    width: channels of the finest level; 128 in the published network. depth: halvings, at most 6, the published number.
    encoder: file of a segmentation encoder that takes the place of the way down, frozen.
    """

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        embedding_dim: int | None = None,
        temperature: float = 1.0,
        width: int = 128,
        depth: int = 6,
        encoder: str | Path | None = None,
    ) -> None:
        super().__init__()
        if (num_classes is None) == (embedding_dim is None):
            raise ValueError("give num_classes, for scores, or embedding_dim, for vectors")
        if not 1 <= depth <= len(MULTIPLES):
            raise InputError(f"discriminator depth is {depth}; it must be 1 to {len(MULTIPLES)}")
        if not temperature > 0:
            raise InputError(f"discriminator temperature is {temperature}; it must be above 0")
        self.temperature, self.smallest_size = temperature, 1 if encoder is not None else 2**depth
        self.down = DownPath(width, depth) if encoder is None else FrozenEncoder(encoder, width)
        coarser, finer = self.down.channels, [max(width // 2, 1), *self.down.channels[:-1]]
        self.up = nn.ModuleList(
            ResidualBlock(channels * (1 if level == len(coarser) - 1 else 2), finer[level]) for level, channels in enumerate(coarser)
        )
        self.last = nn.Conv2d(finer[0], num_classes + 1 if num_classes is not None else (embedding_dim or 0) + 1, 1)
        self.fake = None if embedding_dim is None else nn.Parameter(F.one_hot(torch.tensor(embedding_dim), embedding_dim + 1).float())
        for part in (self.up, self.last, *(module for module in self.down.children() if isinstance(module, nn.ModuleList))):
            initialise(part, gain=1.0)

    def forward(self, images: Tensor, class_embeddings: Tensor | None = None) -> Verdict:
        """images: (B, 3, H, W) in [−1, 1]. class_embeddings: (C, D) of any norm but zero, for vectors only; no gradient flows to them.

        Raises InputError for images that cannot be halved so often.
        """
        self.require_size(*images.shape[2:])
        features = self.down(images)
        x = features[-1]
        for level in range(len(self.up) - 1, -1, -1):
            if level < len(self.up) - 1:
                x = torch.cat([features[level], x], 1)
            x = self.up[level](x, (features[level - 1] if level else images).shape[2:])
        pixels = self.last(F.leaky_relu(x, 0.2))
        return Verdict(pixels) if self.fake is None else Verdict(pixels, self.rows(class_embeddings))

    def require_size(self, height: int, width: int) -> None:
        """Raise InputError for images that cannot be halved so often."""
        if min(height, width) < self.smallest_size:
            raise InputError(f"images of {height}x{width} cannot be halved {len(self.up)} times; set discriminator.depth lower")

    def rows(self, class_embeddings: Tensor | None) -> Tensor:
        """(C + 1, D + 1): what a pixel's vector is multiplied with. All have the length 1 / temperature."""
        assert self.fake is not None
        if class_embeddings is None or class_embeddings.shape[1] != len(self.fake) - 1:
            given = None if class_embeddings is None else tuple(class_embeddings.shape)
            raise ValueError(f"class embeddings (C, {len(self.fake) - 1}) were expected, got {given}")
        classes = F.pad(F.normalize(class_embeddings.detach()), (0, 1))
        return torch.cat([classes, F.normalize(self.fake, dim=0)[None]]) / self.temperature
