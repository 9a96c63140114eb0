"""DeepLabV3+ (arXiv 1802.02611) as in the paper's code base: an encoder, ASPP, and a decoder with one 3×3 convolution.

Shapes: N images of H×W; stride-s features have ⌈H/s⌉×⌈W/s⌉ positions.
"""

import torch
from torch import nn

from seg.networks.upsampling import resize
from shared.backbone import Backbone, Norm, normalisation


def convolution(in_channels: int, out_channels: int, norm: Norm, *, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution that keeps the size, normalisation, ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        # no bias: the normalisation takes it out again, and has a shift of its own
        nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False),
        norm(out_channels),
        nn.ReLU(inplace=True),
    )


class ImagePooling(nn.Module):
    """The mean over the image, through a 1×1 convolution, at every position.

    It has no normalisation: one value per channel and image has no statistics, and a batch of one could not be trained (as in detectron2).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = torch.relu(self.convolution(x.mean((2, 3), keepdim=True)))
        return pooled.expand(-1, -1, *x.shape[2:])


class AtrousPyramid(nn.Module):
    """ASPP (arXiv 1706.05587, figure 5): a 1×1 convolution, three dilated 3×3 and the image mean, side by side, then a 1×1 projection."""

    def __init__(self, in_channels: int, width: int, rates: tuple[int, ...], norm: Norm, dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                convolution(in_channels, width, norm),
                *(convolution(in_channels, width, norm, kernel=3, dilation=rate) for rate in rates),
                ImagePooling(in_channels, width),
            ]
        )
        self.project = nn.Sequential(convolution(len(self.branches) * width, width, norm), nn.Dropout(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(torch.cat([branch(x) for branch in self.branches], dim=1))


class DeepLabV3Plus(nn.Module):
    """Encoder, ASPP and decoder.

    Args:
        backbone: the encoder.
        out_channels: C for a softmax, D for pixel embeddings.
        width: channels of ASPP and decoder, 256 in the paper. The low-level features are projected to 3/16 of it (48 of 256).
        rates: dilations of the ASPP at output stride 16; doubled at output stride 8.
        norm: "batch" or "group", see `shared.backbone.normalisation`.
        dropout: after the ASPP.
    """

    def __init__(
        self,
        backbone: Backbone,
        out_channels: int,
        *,
        width: int = 256,
        rates: tuple[int, ...] = (6, 12, 18),
        norm: str = "batch",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        make_norm = normalisation(norm)
        low_level_width = 3 * width // 16
        rates = tuple(rate * 16 // backbone.strides[-1] for rate in rates)
        self.backbone = backbone
        self.pyramid = AtrousPyramid(backbone.channels[-1], width, rates, make_norm, dropout)
        self.project_low_level = convolution(backbone.channels[backbone.low_level_index], low_level_width, make_norm)
        self.decode = nn.Sequential(
            convolution(width + low_level_width, width, make_norm, kernel=3),
            nn.Conv2d(width, out_channels, 1),
        )
        # the head alone: the backbone may hold trained weights
        for part in self._head():
            part.apply(_initialise)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) in [0, 1], any H and W → (N, out_channels, ⌈H/4⌉, ⌈W/4⌉)."""
        features = self.backbone(images)
        low_level = self.project_low_level(features[self.backbone.low_level_index])
        context = resize(self.pyramid(features[-1]), low_level.shape[2:])
        return self.decode(torch.cat([low_level, context], dim=1))

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters outside the backbone."""
        return [parameter for part in self._head() for parameter in part.parameters()]

    def _head(self) -> tuple[nn.Module, ...]:
        return self.pyramid, self.project_low_level, self.decode


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
