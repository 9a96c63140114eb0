"""The perceptual loss: L1 between features of VGG-19 (Johnson et al., 2016; as used by Park et al., 2019)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.backbone import ImageNetNormalise
from shared.errors import InputError
from shared.files.weights import WeightsFile, read_state_dict

LAYER_WEIGHTS = {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0}
"""Weight of each compared layer by its place in torchvision's VGG-19: relu1_1, relu2_1, relu3_1, relu4_1, relu5_1."""
VGG19_WEIGHTS = WeightsFile("the VGG-19 weights", "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth", "--loss.vgg_weights FILE")
"""torchvision's, trained on ImageNet."""

CHANNELS = (64, 64, None, 128, 128, None, 256, 256, 256, 256, None, 512, 512, 512, 512, None, 512, 512, 512, 512, None)
"""Of the 3×3 convolutions (Simonyan and Zisserman, 2015, Table 1, E); None is a max-pooling."""


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

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """fake, real: (N, 3, H, W) in [−1, 1]. Scalar; gradient flows into `fake` only (weight 10 in the paper)."""
        with torch.no_grad():
            targets = self._features(real)
        layers = zip(LAYER_WEIGHTS.values(), self._features(fake), targets)
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
