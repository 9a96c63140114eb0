"""The perceptual loss: L1 between features of a network trained on ImageNet (Johnson et al., 2016).

The published network is VGG-19 (Park et al., 2019), whose weights must be downloaded; those of EfficientNet-Lite0 are installed.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.backbone import LITE0, ImageNetNormalise, frozen_lite0
from shared.errors import InputError
from shared.files.weights import WeightsFile, WeightsUnavailable, read_state_dict
from synth.config import LossConfig, Perceptual

LAYER_WEIGHTS = {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0}
"""Weight of each compared layer by its place in torchvision's VGG-19: relu1_1, relu2_1, relu3_1, relu4_1, relu5_1."""
VGG19_WEIGHTS = WeightsFile("the VGG-19 weights", "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth", "--loss.vgg_weights FILE")
"""torchvision's, trained on ImageNet."""

LITE0_LAYERS = (0, 1, 2, 3)
"""The compared stages of EfficientNet-Lite0: strides 2, 4, 8 and 16."""
LITE0_SIZES = (4.7, 6.7, 6.1, 5.6, 2.3)
"""Mean size of the numbers of each stage on real images, within a tenth of it for CamVid, VOC and the built-in scenes at 64 to 224
pixels: every stage counts alike, and the loss is a share of the features."""
LITE0_SHARE = 0.2
"""Brings the loss to where the published weight of 10 suits it."""
TEXTURE_CELLS = 4
"""On each side of an image: within one of so many × so many cells a texture may lie anywhere."""
SMALLEST_VARIANCE = 1e-4
"""Of the features in a cell: below it the gradient of a deviation would grow without bounds."""

CHANNELS = (64, 64, None, 128, 128, None, 256, 256, 256, 256, None, 512, 512, 512, 512, None, 512, 512, 512, 512, None)
"""Of the 3×3 convolutions (Simonyan and Zisserman, 2015, Table 1, E); None is a max-pooling."""


FeaturesOf = Callable[[Tensor], list[Tensor]]
"""Images (N, 3, H, W) in [−1, 1] → the compared features; a training may compute them in mixed precision, and the differences never are."""


class PerceptualLoss(nn.Module):
    """Weighted L1 between VGG-19 features of two images. Frozen.

    weights: the file of torchvision's VGG-19 weights; see `VGG19_WEIGHTS`.
    normalise: bring images to the statistics VGG was trained with. The published losses feed [−1, 1] as it is (False).
    Raises InputError when the file is not a VGG-19 state dict.
    """

    def __init__(self, weights: str | Path, *, normalise: bool = False) -> None:
        super().__init__()
        self.features = _vgg19_features()[: max(LAYER_WEIGHTS) + 1]
        wanted = self.features.state_dict()
        state = read_state_dict(weights, [f"features.{key}" for key in wanted])
        try:
            self.features.load_state_dict({key: state[f"features.{key}"] for key in wanted})
        except (KeyError, RuntimeError) as error:
            raise InputError(f"{weights} does not hold the weights of torchvision's VGG-19: {' '.join(str(error).split())}") from error
        self.normalise = ImageNetNormalise() if normalise else None
        self.requires_grad_(False)
        self.features_of: FeaturesOf = self._features

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """fake, real: (N, 3, H, W) in [−1, 1]. Scalar; gradient flows into `fake` only (weight 10 in the paper)."""
        with torch.no_grad():
            targets = self.features_of(real)
        layers = zip(LAYER_WEIGHTS.values(), self.features_of(fake), targets)
        return torch.stack([weight * F.l1_loss(feature, target) for weight, feature, target in layers]).sum()

    def _features(self, images: Tensor) -> list[Tensor]:
        if self.normalise is not None:
            images = self.normalise((images + 1) / 2)
        compared = []
        for place, layer in enumerate(self.features):
            images = layer(images)
            if place in LAYER_WEIGHTS:
                compared.append(images)
        return compared


class Lite0PerceptualLoss(nn.Module):
    """L1 between features of EfficientNet-Lite0 of two images, in units of what the features are on real images. Frozen.

    Features are compared place by place, and their means and deviations in the cells of a grid. The places alone ask for the mean of all
    images that a layout may have, which is a blur; the deviations ask for a texture as rough as the real one, wherever its parts lie.

    texture: weight of means and deviations beside that of the places.
    Raises InputError when the weights are missing or damaged.
    """

    def __init__(self, texture: float = 1.0) -> None:
        super().__init__()
        self.encoder, self.texture = frozen_lite0(), texture
        self.features_of: FeaturesOf = self._features

    def train(self, mode: bool = True) -> "Lite0PerceptualLoss":
        """The encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """fake, real: (N, 3, H, W) in [−1, 1]. Scalar; gradient flows into `fake` only."""
        with torch.no_grad():
            targets = self.features_of(real)
        features = self.features_of(fake)
        layers = [self._difference(features[stage], targets[stage]) / LITE0_SIZES[stage] for stage in LITE0_LAYERS]
        return LITE0_SHARE * torch.stack(layers).sum()

    def _features(self, images: Tensor) -> list[Tensor]:
        return list(self.encoder(images / 2 + 0.5))

    def _difference(self, features: Tensor, targets: Tensor) -> Tensor:
        """Of the features of a stage, (N, C, h, w)."""
        places = F.l1_loss(features, targets)
        if self.texture == 0:
            return places
        cells = [F.l1_loss(ours, theirs) for ours, theirs in zip(cell_moments(features), cell_moments(targets))]
        return places + self.texture * torch.stack(cells).sum()


def cell_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of (N, C, h, w) in each of 4 × 4 cells, or fewer where h or w are smaller: (N, C, ≤ 4, ≤ 4) each."""
    grid = min(TEXTURE_CELLS, features.shape[2]), min(TEXTURE_CELLS, features.shape[3])
    mean = F.adaptive_avg_pool2d(features, grid)
    # a difference of squares: rounding may take it below 0
    variance = F.adaptive_avg_pool2d(features.square(), grid) - mean.square()
    return mean, variance.clamp(min=SMALLEST_VARIANCE).sqrt()


PerceptualNetwork = PerceptualLoss | Lite0PerceptualLoss


def choose_perceptual(config: LossConfig, begun_with: Perceptual | None = None) -> Perceptual:
    """The network that `config.perceptual` stands for: vgg19, efficientnet_lite0 or none. auto takes what is at hand without a download.

    Args:
        begun_with: the network of the run that is to be continued, which auto keeps whatever has come to hand since.

    Raises:
        InputError: a weights file that is given is not there.
    """
    if config.vgg_weight == 0:
        return "none"
    if config.perceptual != "auto":
        return config.perceptual
    if begun_with is not None:
        return begun_with
    try:
        VGG19_WEIGHTS.find(config.vgg_weights, download=False)
    except WeightsUnavailable:
        return "efficientnet_lite0"
    return "vgg19"


def build_perceptual(config: LossConfig) -> PerceptualNetwork | None:
    """The loss in the features of the network that `config.perceptual` names, once `choose_perceptual` chose it; None for none.

    Raises:
        InputError: its weights are missing or damaged.
    """
    if config.perceptual == "none":
        return None
    if config.perceptual == LITE0:
        return Lite0PerceptualLoss(config.texture_weight)
    return PerceptualLoss(VGG19_WEIGHTS.find(config.vgg_weights))


def _vgg19_features() -> nn.Sequential:
    """The convolutions of VGG-19, with places and names as in torchvision's `features`."""
    layers: list[nn.Module] = []
    width = 3
    for channels in CHANNELS:
        if channels is None:
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU(inplace=True)]
            width = channels
    return nn.Sequential(*layers)
