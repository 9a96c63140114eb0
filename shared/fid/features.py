"""The networks in whose features sets of images are compared.

N images, F features.
"""

import hashlib
import logging
from pathlib import Path
from unittest import mock

import torch
from pytorch_fid import inception
from torch import nn

from shared.constants import IMAGENET_MEAN, IMAGENET_STD
from shared.fid.encoder_file import load_encoder
from shared.fid.weights import SHA256_PREFIX, WeightsUnavailable, inception_weights

INCEPTION_LABEL = "Inception-2015"
INCEPTION_DIM = 2048

log = logging.getLogger(__name__)


def titles(label: str) -> tuple[str, str]:
    """What the Fréchet and the kernel distance are called in the features of the network `label`."""
    return ("FID", "KID") if label == INCEPTION_LABEL else ("FD-seg", "KD-seg")


class FeatureNetwork(nn.Module):
    """A frozen network from images to features.

    Args:
        label: a few words that identify the network; kept in statistics files.
        description: one sentence on what the network is and what its distances compare with.

    Attributes:
        dim: F.
        title, kernel_title: names of the distances, "FID" and "KID" or "FD-seg" and "KD-seg".
    """

    dim: int

    def __init__(self, network: nn.Module, label: str, description: str) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.eval().requires_grad_(False)
        self.label, self.description = label, description
        self.title, self.kernel_title = titles(label)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) float RGB in [0, 1] -> (N, F) float32."""
        raise NotImplementedError


class InceptionFeatures(FeatureNetwork):
    """The 2048 averages before the last layer of the Inception network of 2015, as pytorch-fid computes them.

    Images are resized to 299 × 299 (bilinear, aspect ratio ignored).

    Args:
        weights: file with the published weights, already checked.
    """

    dim = INCEPTION_DIM

    def __init__(self, weights: Path) -> None:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        # The constructor fetches the weights by itself, unchecked; for its duration the fetch gives out ours.
        with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
            network = inception.InceptionV3()
        description = f"FID by the pytorch-fid protocol: {INCEPTION_LABEL} pool3, weights {SHA256_PREFIX}, images resized to 299 × 299."
        super().__init__(network, INCEPTION_LABEL, description)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images.contiguous(memory_format=torch.channels_last))[0].flatten(1)


class EncoderFeatures(FeatureNetwork):
    """The mean over the image of every channel of every stage of our own segmentation encoder.

    Args:
        path: encoder file; see `shared.fid.encoder_file`.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, path: str | Path) -> None:
        backbone, meta = load_encoder(path)
        sha = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:8]
        if meta.get("head", "softmax") != "softmax":
            log.warning("%s comes from a run with head %s, whose own embeddings it favours; use one of head softmax", path, meta["head"])
        description = (
            f"FD-seg: stage means of our {meta['backbone']} segmentation encoder {sha}, trained on {meta['dataset']}; it is not FID, "
            "and compares with no paper and no other encoder, only with results of this one."
        )
        super().__init__(backbone, f"{meta['backbone']} encoder {sha}, {meta['dataset']}", description)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))
        with torch.no_grad():
            self.dim = self(torch.zeros(1, 3, 64, 64)).shape[1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stages = self.network((images - self.mean) / self.std)
        return torch.cat([stage.mean((2, 3)) for stage in stages], dim=1)


def build_feature_network(
    name: str = "auto",
    *,
    weights_path: str | Path | None = None,
    encoder_path: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> FeatureNetwork:
    """A feature network on `device`.

    Args:
        name: "inception"; the path of an encoder file; or "auto": Inception when its weights are to be had, else `encoder_path`.
        weights_path: Inception weights file; None = torch's cache, or a download into it.
        encoder_path: encoder file for "auto".

    Raises:
        InputError: the weights or the encoder are missing, damaged, or not what they should be.
    """
    if name not in ("auto", "inception"):
        return EncoderFeatures(name).to(device)
    try:
        return InceptionFeatures(inception_weights(weights_path)).to(device)
    except WeightsUnavailable as error:
        if name == "inception" or encoder_path is None:
            raise
        log.warning("%s. Using the encoder %s instead", error, encoder_path)
        return EncoderFeatures(encoder_path).to(device)
