"""Convolutional encoders: torchvision's networks with dilation, and a small one for CPUs.

`Backbone` gives the features of every stage. The last stage, or the last two, keep their resolution and dilate their kernels instead
(DeepLab, arXiv 1606.00915, section 3.1), so that the last features have the stride `output_stride`.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shared.constants import IMAGENET_MEAN, IMAGENET_STD
from shared.errors import InputError, choose
from shared.files.weights import WeightsFile, read_state_dict
from shared.joint_norm import JointBatchNorm

Norm = Callable[[int], nn.Module]

LOW_LEVEL_STRIDE = 4  # of the features that DeepLabV3+'s decoder takes from the middle of the encoder
PRETRAINED_BATCH_NORM_MOMENTUM = 0.01  # pretrained statistics move slowly, as in VainF/DeepLabV3Plus-Pytorch
TINY_CHANNELS = (16, 32, 64, 96)


class ImageNetNormalise(nn.Module):
    """Images (N, 3, H, W) in [0, 1] → less ImageNet's mean, over its deviation, per channel: what encoders read."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean) / self.std


class Backbone(nn.Module):
    """An encoder as a list of stages.

    Attributes:
        stages: the modules that run one after the other.
        channels: feature channels after each stage.
        strides: input size ÷ feature size after each stage; feature sizes round up.
        low_level_index: the stage with stride 4.
    """

    def __init__(self, stages: list[nn.Module], channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.channels = channels
        self.strides = strides
        self.low_level_index = strides.index(LOW_LEVEL_STRIDE)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features of every stage, finest first, (N, channels, ⌈H/stride⌉, ⌈W/stride⌉), of ImageNet-normalised images (N, 3, H, W)."""
        features = [images]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[1:]


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
        name: "tiny", "mobilenet_v2", "resnet50" or "resnet101".
        output_stride: 8 or 16, stride of the last stage.
        pretrained: start from ImageNet weights: from the torch hub cache, or downloaded to it.
        weights: start from this .pth state dict instead, in torchvision's layout. Its classifier may be absent.
        norm: "batch", "sync" or "group", see `normalisation`. Pretrained scales and shifts serve all, pretrained statistics not "group".

    Raises:
        InputError: an unknown name, stride or norm; or weights that are missing, unreadable or do not fit.
    """
    choose("backbone", name, _BUILDERS, other="smp/<architecture>/<encoder>")
    if output_stride not in (8, 16):
        raise InputError(f"output stride {output_stride} is not supported; choose 8 or 16")

    def initialise(network: nn.Module) -> None:
        if pretrained or weights is not None:
            _load_weights(network, name, Path(weights) if weights is not None else _imagenet_weights(name))

    return _BUILDERS[name](output_stride, normalisation(norm), initialise)


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


Initialise = Callable[[nn.Module], None]  # fills a whole network with its starting weights, before it is cut into stages


def _tiny(output_stride: int, norm: Norm, initialise: Initialise) -> Backbone:
    first, second, third, fourth = TINY_CHANNELS
    stride, dilation = (2, 1) if output_stride == 16 else (1, 2)
    stages: list[nn.Module] = [
        nn.Sequential(nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False), norm(first), nn.ReLU(inplace=True)),
        ResidualBlock(first, second, norm, stride=2),
        ResidualBlock(second, third, norm, stride=2),
        nn.Sequential(ResidualBlock(third, fourth, norm, stride=stride), ResidualBlock(fourth, fourth, norm, dilation=dilation)),
    ]
    backbone = Backbone(stages, TINY_CHANNELS, (2, 4, 8, output_stride))
    initialise(backbone)
    return backbone


def _resnet(name: str, output_stride: int, norm: Norm, initialise: Initialise) -> Backbone:
    network = _torchvision_model(name, replace_stride_with_dilation=(False, output_stride == 8, True), norm_layer=norm)
    initialise(network)
    stem = nn.Sequential(network.conv1, network.bn1, network.relu)
    stages = [stem, nn.Sequential(network.maxpool, network.layer1), network.layer2, network.layer3, network.layer4]
    return Backbone(stages, (64, 256, 512, 1024, 2048), (2, 4, 8, output_stride, output_stride))


def _mobilenet_v2(output_stride: int, norm: Norm, initialise: Initialise) -> Backbone:
    """The last 1×1 convolution, to 1280 channels, serves the classifier only and is left out."""
    network = _torchvision_model("mobilenet_v2", norm_layer=norm)
    initialise(network)
    stages = [network.features[start:stop] for start, stop in ((0, 2), (2, 4), (4, 7), (7, 14), (14, 18))]
    if output_stride == 8:
        _dilate(stages[3], before=1, after=2)
    _dilate(stages[4], before=16 // output_stride, after=32 // output_stride)
    return Backbone(stages, (16, 24, 32, 96, 320), (2, 4, 8, output_stride, output_stride))


def _torchvision_model(name: str, **options: Any) -> Any:
    """torchvision takes seconds to import, and is not needed for the small encoder, a refusal or --help."""
    from torchvision import models

    return models.get_model(name, weights=None, **options)


def _dilate(stage: nn.Sequential, *, before: int, after: int) -> None:
    """Take the stride out of a stage: its first block keeps the spacing of the stage before, the others have twice that, as in ResNet."""
    for index, block in enumerate(stage):
        spacing = before if index == 0 else after
        for module in block.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.stride, module.dilation, module.padding = (1, 1), (spacing, spacing), (spacing, spacing)


_BUILDERS: dict[str, Callable[[int, Norm, Initialise], Backbone]] = {
    "tiny": _tiny,
    "mobilenet_v2": _mobilenet_v2,
    "resnet50": partial(_resnet, "resnet50"),
    "resnet101": partial(_resnet, "resnet101"),
}

# version 1: the weights that were there when the paper was written
_IMAGENET_WEIGHTS = {
    name: WeightsFile(f"the ImageNet weights of {name}", f"https://download.pytorch.org/models/{file}", "--model.weights FILE")
    for name, file in (
        ("mobilenet_v2", "mobilenet_v2-b0353104.pth"),
        ("resnet50", "resnet50-0676ba61.pth"),
        ("resnet101", "resnet101-63fe2227.pth"),
    )
}


def _imagenet_weights(name: str) -> Path:
    if name not in _IMAGENET_WEIGHTS:
        raise InputError(
            f"there are no ImageNet weights for the backbone {name!r}; set model.pretrained to false, or model.weights to a file"
        )
    return _IMAGENET_WEIGHTS[name].find()


def _load_weights(network: nn.Module, name: str, path: Path) -> None:
    wanted = {key: tensor.shape for key, tensor in network.state_dict().items()}
    optional = ("fc.", "classifier.")  # the classifier is cut off
    needed = [key for key in wanted if not key.startswith(optional) and not key.endswith("num_batches_tracked")]
    state = read_state_dict(path, needed)
    fitting = {key: tensor for key, tensor in state.items() if key in wanted and getattr(tensor, "shape", None) == wanted[key]}
    unfilled = [key for key in needed if key not in fitting]
    if unfilled:
        raise InputError(
            f"{path} does not fit the backbone {name!r}: {len(unfilled)} of its {len(wanted)} tensors are missing or have another shape, "
            f"the first is {unfilled[0]}"
        )
    network.load_state_dict(fitting, strict=False)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            module.momentum = PRETRAINED_BATCH_NORM_MOMENTUM
