"""The perceptual loss: L1 between features of VGG-19 (Johnson et al., 2016; as used by Park et al., 2019)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vgg import VGG19_Weights, cfgs, make_layers

from shared.constants import IMAGENET_MEAN, IMAGENET_STD
from shared.errors import InputError

LAYER_WEIGHTS = {1: 1 / 32, 6: 1 / 16, 11: 1 / 8, 20: 1 / 4, 29: 1.0}
"""Weight of each compared layer by its place in torchvision's VGG-19: relu1_1, relu2_1, relu3_1, relu4_1, relu5_1."""
URL = VGG19_Weights.IMAGENET1K_V1.url


def cached_vgg_weights() -> Path:
    """Where torch keeps the downloaded file."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(URL).name


def find_vgg_weights(path: str | Path | None = None, *, download: bool = True) -> Path:
    """The file of VGG-19 weights: `path` if given, else torch's cache, else downloaded into it.

    Raises InputError, one sentence that says what to put where, when there is none.
    """
    wanted = cached_vgg_weights() if path is None else Path(path)
    if wanted.is_file():
        return wanted
    reason = ""
    if path is None and download:
        try:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(URL, str(wanted), hash_prefix=wanted.stem.rsplit("-", 1)[1], progress=False)
            return wanted
        except (OSError, RuntimeError) as error:  # no network, or a damaged file
            reason = f" and downloading failed ({error})"
    raise InputError(f"the perceptual loss needs the VGG-19 weights: {wanted} does not exist{reason}; put the file from {URL} there")


class PerceptualLoss(nn.Module):
    """Weighted L1 between VGG-19 features of two images. Frozen.

    weights: the file of torchvision's VGG-19 weights; see `find_vgg_weights`.
    normalise: bring images to the statistics VGG was trained with. The published losses feed [−1, 1] as it is (False).
    Raises InputError when the file is not a VGG-19 state dict.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | Path, *, normalise: bool = False) -> None:
        super().__init__()
        self.features = make_layers(cfgs["E"], batch_norm=False)[: max(LAYER_WEIGHTS) + 1]
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            wanted = self.features.state_dict().keys()
            self.features.load_state_dict({key: state[f"features.{key}"] for key in wanted})
        except (KeyError, RuntimeError, TypeError) as error:
            raise InputError(f"{weights} does not hold the weights of torchvision's VGG-19: {error}") from error
        self.normalise = normalise
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        self.requires_grad_(False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """fake, real: (N, 3, H, W) in [−1, 1]. Scalar; gradient flows into `fake` only (weight 10 in the paper)."""
        with torch.no_grad():
            targets = self._features(real)
        layers = zip(LAYER_WEIGHTS.values(), self._features(fake), targets)
        return torch.stack([weight * F.l1_loss(feature, target) for weight, feature, target in layers]).sum()

    def _features(self, images: Tensor) -> list[Tensor]:
        if self.normalise:
            images = ((images + 1) / 2 - self.mean) / self.std
        compared = []
        for place, layer in enumerate(self.features):
            images = layer(images)
            if place in LAYER_WEIGHTS:
                compared.append(images)
        return compared
