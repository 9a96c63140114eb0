"""Spatially-adaptive normalisation (Park et al., 2019) and the residual block made of it.

SPADE, Eq. 1: out = γ(m) · (x − μ)/σ + β(m), with γ and β convolved from the semantic map m at the size of x.
"""

import torch
from torch import Tensor, nn

from shared.joint_norm import JointBatchNorm
from synth.kernels.modulation import modulate
from synth.networks.spectral import SpectralConv2d
from synth.semantics.layout import SemanticPyramid

NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm2d, "sync": JointBatchNorm, "instance": nn.InstanceNorm2d}
SLOPE = 0.2
"""Of the LeakyReLU behind a SPADE layer."""


class Spade(nn.Module):
    """Normalise x without parameters, then scale by 1 + γ and shift by β of the semantics.

    channels: of x. semantic_width: S. hidden: channels between the semantics and γ, β (128 in the paper). norm: batch, sync or instance.
    """

    def __init__(self, channels: int, semantic_width: int, *, hidden: int = 128, norm: str = "batch", kernel: int = 3) -> None:
        super().__init__()
        self.param_free_norm = NORMS[norm](channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(semantic_width, hidden, kernel, padding=kernel // 2), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, channels, kernel, padding=kernel // 2)
        self.mlp_beta = nn.Conv2d(hidden, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, pyramid: SemanticPyramid, *, slope: float = 1.0) -> Tensor:
        """x: (N, channels, h, w). slope: of the LeakyReLU that follows; 1: none. Returns x's shape."""
        first = self.mlp_shared[0]
        assert isinstance(first, nn.Conv2d)
        modulation = pyramid.at(x.shape[2], x.shape[3]).modulation(first, *self._modulation())
        return modulate(x, self.param_free_norm, modulation, slope)

    def _modulation(self) -> tuple[Tensor, Tensor]:
        """Kernel and bias that give 1 + γ and β in one convolution; the 1 rides on γ's bias."""
        assert self.mlp_gamma.bias is not None and self.mlp_beta.bias is not None
        kernel = torch.cat([self.mlp_gamma.weight, self.mlp_beta.weight])
        return kernel, torch.cat([self.mlp_gamma.bias + 1, self.mlp_beta.bias])


class SpadeResidualBlock(nn.Module):
    """Two rounds of SPADE, LeakyReLU, spectral 3×3 convolution, plus a shortcut; learned, and without activation, if the width changes."""

    def __init__(self, in_channels: int, out_channels: int, semantic_width: int, *, hidden: int = 128, norm: str = "batch") -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.learned_shortcut = in_channels != out_channels
        self.conv_0 = SpectralConv2d(in_channels, middle, 3, padding=1)
        self.conv_1 = SpectralConv2d(middle, out_channels, 3, padding=1)
        self.norm_0 = Spade(in_channels, semantic_width, hidden=hidden, norm=norm)
        self.norm_1 = Spade(middle, semantic_width, hidden=hidden, norm=norm)
        if self.learned_shortcut:
            self.conv_s = SpectralConv2d(in_channels, out_channels, 1, bias=False)
            self.norm_s = Spade(in_channels, semantic_width, hidden=hidden, norm=norm)

    def forward(self, x: Tensor, pyramid: SemanticPyramid) -> Tensor:
        """(N, in_channels, h, w) -> (N, out_channels, h, w)."""
        shortcut = self.conv_s(self.norm_s(x, pyramid)) if self.learned_shortcut else x
        inner = self.conv_0(self.norm_0(x, pyramid, slope=SLOPE))
        return shortcut + self.conv_1(self.norm_1(inner, pyramid, slope=SLOPE))
