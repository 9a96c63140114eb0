"""The networks in whose features sets of images are compared.

N images, F features.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from shared.backbone import LITE0, LITE0_WEIGHTS, ImageNetNormalise, frozen_lite0
from shared.encoder_file import ENCODER_FILE, load_encoder, softmax_runs
from shared.errors import InputError, choose
from shared.fid.frechet import Extractor
from shared.files.atomic import sha256
from shared.files.weights import WeightsFile, WeightsUnavailable, read_state_dict
from shared.precision import full_precision

INCEPTION_LABEL = "Inception-2015"
INCEPTION_DIM = 2048
INCEPTION_WEIGHTS = WeightsFile(
    "the Inception weights",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    "--weights FILE",
    sha256_start="6726825d",
    only_this=True,  # a distance is called FID with this very file alone
)
"""The Inception network of 2015 with 1008 outputs, ported by pytorch-fid. torchvision's own Inception weights give other numbers."""

INCEPTION_SIZE = 299

LITE0_LABEL = "EfficientNet-Lite0"
LITE0_SIZE = 224

TORCHVISION = "torchvision/"
"""How the names of torchvision's networks begin, wherever a network is named."""

NAMES = {INCEPTION_LABEL: "inception", LITE0_LABEL: LITE0}
"""Networks that feature statistics name, as the settings name them."""

log = logging.getLogger(__name__)


@dataclass
class FeaturesConfig:
    """In the features of which network sets of images are compared."""

    features: str = "auto"
    """Network of the features, after which the distances are called: inception (FID, KID); efficientnet_lite0 (FD-lite0, KD-lite0, by one
    definition for everybody); torchvision/NAME, such as torchvision/resnet50 (FD-NAME, KD-NAME); an encoder file of a segmentation run
    (FD-seg, KD-seg); encoder: that file of the segmenter of a comparison, or else of the newest finished seg.train --head softmax; auto:
    inception if its weights are available, else efficientnet_lite0."""
    weights: Path | None = None
    """Weights file of inception, efficientnet_lite0 or torchvision/NAME. Null: torch's cache, or, for inception, a download into it; for
    efficientnet_lite0 its package."""

    def __post_init__(self) -> None:
        if self.features.startswith(TORCHVISION):
            return
        names = ("auto", "inception", LITE0, "encoder")
        is_file = self.features not in names and (Path(self.features).suffix == ".safetensors" or Path(self.features).is_file())
        if not is_file:
            choose("features", self.features, names, other=f"{TORCHVISION}NAME or an encoder file (.safetensors)")
        if self.weights is not None and (is_file or self.features == "encoder"):
            raise InputError(
                f"weights {self.weights} was given, but features {self.features} is an encoder file, which holds its own; leave weights out"
            )


def titles(label: str) -> tuple[str, str]:
    """What the Fréchet and the kernel distance are called in the features of the network `label`: FID and KID for one network only."""
    if label == INCEPTION_LABEL:
        return "FID", "KID"
    if label == LITE0_LABEL:
        return "FD-lite0", "KD-lite0"
    features = label.removeprefix(TORCHVISION).split()[0] if label.startswith(TORCHVISION) else "seg"
    return f"FD-{features}", f"KD-{features}"


class FeatureNetwork(nn.Module):
    """A frozen network from images to features.

    Args:
        extractor: the network in words, the hash of its weights and its resize rule; kept in files of feature statistics.
        description: one sentence on what the network is and what its distances compare with.

    Attributes:
        dim: F.
        title, kernel_title: names of the distances, such as "FID" and "KID", or "FD-seg" and "KD-seg".
    """

    dim: int

    def __init__(self, network: nn.Module, extractor: Extractor, description: str) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.eval().requires_grad_(False)
        self.extractor, self.description = extractor, description
        self.title, self.kernel_title = titles(extractor.network)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """`forward`, with all digits of float32 on every device: features are compared with those of others."""
        with full_precision():
            features: torch.Tensor = super().__call__(images)
        return features

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
        start = INCEPTION_WEIGHTS.sha256_start
        description = f"FID by the pytorch-fid protocol: {INCEPTION_LABEL} pool3, weights {start}, images resized to 299 × 299."
        extractor = Extractor(INCEPTION_LABEL, sha256(weights), "bilinear to 299x299, not antialiased")
        super().__init__(_inception_2015(read_state_dict(weights)), extractor, description)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        resized = F.interpolate(images, (INCEPTION_SIZE, INCEPTION_SIZE), mode="bilinear", align_corners=False)
        features: torch.Tensor = self.network(2 * resized - 1)
        return features


def _inception_2015(state: dict[str, torch.Tensor]) -> nn.Module:
    """pytorch-fid's network without its last layer. Its own constructor would fetch the weights by itself, unchecked."""
    from pytorch_fid import inception
    from torchvision import models

    network = models.inception_v3(weights=None, num_classes=1008, aux_logits=False, transform_input=False, init_weights=False)
    network.Mixed_5b, network.Mixed_5c, network.Mixed_5d = (
        inception.FIDInceptionA(channels, pool_features=pooled) for channels, pooled in ((192, 32), (256, 64), (288, 64))
    )
    network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e = (
        inception.FIDInceptionC(768, channels_7x7=channels) for channels in (128, 160, 160, 192)
    )
    network.Mixed_7b, network.Mixed_7c = inception.FIDInceptionE_1(1280), inception.FIDInceptionE_2(2048)
    network.load_state_dict(state)
    network.fc = nn.Identity()
    return network


class Lite0Features(FeatureNetwork):
    """The mean over the image of every channel of the last stage of EfficientNet-Lite0.

    The definition of FD-lite0 and KD-lite0, one for everybody: images in 8 bit, in [0, 1], are resized to 224 × 224 (bilinear, antialiased,
    aspect ratio ignored) and brought to [−1, 1]; the published weights, checked by SHA-256, in evaluation mode; the 320 channels after the
    last block, before the convolution of the classifier, averaged over the 7 × 7 places.

    Args:
        weights: the published file; None: that of the package.

    Raises:
        InputError: the weights are missing or damaged.
    """

    dim = 320

    def __init__(self, weights: Path | None = None) -> None:
        file, size = replace(LITE0_WEIGHTS, option="--weights FILE").find(weights), f"{LITE0_SIZE} × {LITE0_SIZE}"
        sha = sha256(file)
        description = (
            f"FD-lite0: the {self.dim} averages after the last block of {LITE0_LABEL}, weights {sha[:8]}, images resized to {size}; it is "
            "not FID, and compares with every FD-lite0 at equal counts of images, and with no FID."
        )
        extractor = Extractor(LITE0_LABEL, sha, f"bilinear to {LITE0_SIZE}x{LITE0_SIZE}, antialiased")
        super().__init__(frozen_lite0(weights=file), extractor, description)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        resized = F.interpolate(images, (LITE0_SIZE, LITE0_SIZE), mode="bilinear", antialias=True, align_corners=False)
        last: torch.Tensor = self.network(resized.contiguous(memory_format=torch.channels_last))[-1]
        return last.mean((2, 3))


class EncoderFeatures(FeatureNetwork):
    """The mean over the image of every channel of every stage of our own segmentation encoder.

    Args:
        path: encoder file; see `shared.encoder_file`.

    Attributes:
        path: as given.
    """

    def __init__(self, path: str | Path) -> None:
        backbone, meta = load_encoder(path)
        sha = sha256(path)
        name = f"{meta['backbone']} encoder {sha[:8]}, {meta['dataset']}"
        if meta.get("head", "softmax") != "softmax":
            log.warning("%s comes from a run with head %s, whose own embeddings it favours; use one of head softmax", path, meta["head"])
        description = (
            f"FD-seg: stage means of our {meta['backbone']} segmentation encoder {sha[:8]}, trained on {meta['dataset']}; it is not FID, "
            "and compares with no paper and no other encoder, only with results of this one."
        )
        super().__init__(backbone, Extractor(name, sha, "none"), description)
        self.path = Path(path)
        with torch.no_grad():
            self.dim = self(torch.zeros(1, 3, 64, 64)).shape[1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stages = self.network(images)
        return torch.cat([stage.mean((2, 3)) for stage in stages], dim=1)


class Reading(NamedTuple):
    """How a classifier reads images: resized to size × size, then normalised per channel."""

    size: int
    mean: list[float]
    std: list[float]


class TorchvisionFeatures(FeatureNetwork):
    """What the last layer of a classifier of torchvision's reads.

    Images are resized (bilinear, antialiased, aspect ratio ignored) to the size that the classifier was trained at.

    Args:
        name: of the model in torchvision, such as resnet50.
        path: file with its weights. None: torch's cache.

    Raises:
        InputError: unknown model, no weights, or a file that is not theirs.
    """

    def __init__(self, name: str, path: Path | None) -> None:
        file = torchvision_weights(name).find(path, download=False)
        network, self.dim, reading = load_headless(name, file)
        self.size = reading.size
        sha, title = sha256(file), titles(TORCHVISION + name)[0]
        description = f"{title}: the last features of torchvision's {name}, weights {sha[:8]}; it is not FID, and compares with no FID."
        rule = f"bilinear to {self.size}x{self.size}, antialiased"
        super().__init__(network, Extractor(f"{TORCHVISION}{name} {sha[:8]}", sha, rule), description)
        self.normalise = ImageNetNormalise(reading.mean, reading.std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        resized = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        return self.network(self.normalise(resized)).flatten(1)


def torchvision_weights(name: str) -> WeightsFile:
    """The weights file of a classifier of torchvision's.

    Raises:
        InputError: there is no classifier of this name.
    """
    return WeightsFile(f"the weights of {TORCHVISION}{name}", _published(name).url, "--weights FILE")


def load_headless(name: str, file: Path) -> tuple[nn.Module, int, Reading]:
    """The model without its last linear layer, the width of what that layer read, and how the model reads images.

    Raises:
        InputError: the file does not hold the weights of this model.
    """
    from torchvision import models

    model = models.get_model(name, weights=None, **({"init_weights": False} if name in ("googlenet", "inception_v3") else {}))
    state = read_state_dict(file, model.state_dict().keys())
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{file} does not hold the weights of {TORCHVISION}{name}: {' '.join(str(error).split())[:200]}") from error
    last, head = [(place, layer) for place, layer in model.named_modules() if isinstance(layer, nn.Linear)][-1]
    parent, _, attribute = last.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Identity())
    preset = _published(name).transforms()
    return model, head.in_features, Reading(preset.crop_size[0], preset.mean, preset.std)


def _published(name: str) -> Any:
    """The weights that torchvision publishes for a classifier.

    Raises:
        InputError: there is no classifier of this name.
    """
    from torchvision import models

    choose("classifier of torchvision", name, models.list_models(module=models))
    return models.get_model_weights(name).DEFAULT


def network_of(config: FeaturesConfig, device: torch.device, stored: Sequence[Extractor] = ()) -> FeatureNetwork:
    """The network that the settings name; `encoder` is that of the newest softmax segmenter.

    Args:
        stored: of feature statistics that the images will be compared with; auto takes the network of these where it is known.

    Raises:
        InputError: its weights are not available.
    """
    known = [NAMES[extractor.network] for extractor in stored if extractor.network in NAMES]
    name = known[0] if config.features == "auto" and known else config.features
    newest = next(softmax_runs(), None) if name == "encoder" else None
    encoder = None if newest is None else newest.path / ENCODER_FILE
    try:
        return build_feature_network(name, weights=config.weights, encoder=encoder, device=device)
    except WeightsUnavailable as error:
        if name in ("auto", LITE0):
            raise
        raise WeightsUnavailable(f"{error}, or give --features {LITE0} to get FD-lite0 instead") from error


def build_feature_network(
    name: str = "auto",
    *,
    weights: str | Path | None = None,
    encoder: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> FeatureNetwork:
    """A feature network on `device`.

    Args:
        name: "inception"; "efficientnet_lite0"; "torchvision/NAME", a model of torchvision's; the path of an encoder file; "encoder":
            `encoder`; or "auto": Inception when its weights are available, else EfficientNet-Lite0.
        weights: weights file of Inception, EfficientNet-Lite0 or torchvision's model; None = torch's cache, for Inception a download into
            it, for EfficientNet-Lite0 its package.
        encoder: encoder file for "encoder".

    Raises:
        InputError: the weights or the encoder are missing, damaged, or not what they should be.
    """
    if name == LITE0:
        return Lite0Features(None if weights is None else Path(weights)).to(device)
    if name.startswith(TORCHVISION):
        return TorchvisionFeatures(name.removeprefix(TORCHVISION), None if weights is None else Path(weights)).to(device)
    if name == "encoder" and encoder is None:
        raise InputError(
            "there is no finished run of seg.train --head softmax under runs/seg.train, whose encoder gives the features; train one, or "
            "give an encoder file with --features"
        )
    if name not in ("auto", "inception"):
        return EncoderFeatures(encoder if name == "encoder" and encoder is not None else name).to(device)
    try:
        return InceptionFeatures(INCEPTION_WEIGHTS.find(weights)).to(device)
    except WeightsUnavailable as error:
        if name == "inception":
            raise
        log.warning("%s. Using %s instead", error, LITE0_LABEL)
        return Lite0Features().to(device)
