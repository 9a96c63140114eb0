"""Any architecture and encoder of segmentation_models_pytorch instead of DeepLabV3+, for both heads.

Shapes: N images of H×W.
"""

import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from shared.backbone import ImageNetNormalise
from shared.errors import InputError, choose
from shared.files.weights import read_state_dict

PREFIX = "smp/"
EXPECTED = "smp/<architecture>/<encoder>, such as smp/segformer/mit_b0 or smp/upernet/resnet50"


class SmpNetwork(nn.Module):
    """Encoder and decoder of an architecture, and a 1×1 convolution instead of its own head.

    Images are padded with zeros below and to the right to a multiple of the encoder's stride, and the features are cut to match.

    Args:
        name: smp/<architecture>/<encoder>.
        out_channels: C for a softmax, D for pixel embeddings.
        pretrained: start the encoder from the library's ImageNet weights: from the Hugging Face cache, or downloaded to it.
        weights: start the encoder from this .pth state dict instead.

    Raises:
        InputError: the library is not installed, a name it does not know, or weights that are missing or do not fit.
    """

    def __init__(self, name: str, out_channels: int, *, pretrained: bool = False, weights: str | os.PathLike[str] | None = None) -> None:
        super().__init__()
        # nothing is downloaded that a file is about to replace
        model = _create(name, pretrained and weights is None)
        self.backbone: nn.Module = model.encoder
        self.decoder: nn.Module = model.decoder
        self.normalise = _normalisation(name)
        if weights is not None:
            _load(self.backbone, name, Path(weights))
        self.project = nn.Conv2d(model.segmentation_head[0].in_channels, out_channels, 1)
        self.multiple = int(model.encoder.output_stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) in [0, 1], any H and W → (N, out_channels, ⌈H/s⌉, ⌈W/s⌉), s the stride of the decoder."""
        height, width = images.shape[2:]
        padded = F.pad(self.normalise(images), (0, -width % self.multiple, 0, -height % self.multiple))
        features = self.decoder(self.backbone(padded))
        # of the decoder; it differs between architectures
        stride = padded.shape[2] // features.shape[2]
        return self.project(features[:, :, : -(-height // stride), : -(-width // stride)])

    def head_parameters(self) -> list[nn.Parameter]:
        """The parameters outside the encoder."""
        return [*self.decoder.parameters(), *self.project.parameters()]


def _create(name: str, pretrained: bool) -> Any:
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise InputError(f"model.backbone {name} needs segmentation_models_pytorch: pip install 'essnet-spade[models]'") from error
    _, _, rest = name.partition("/")
    architecture, _, encoder = rest.partition("/")
    known = smp.MODEL_ARCHITECTURES_MAPPING
    if not encoder:
        raise InputError(f"model.backbone is {name!r}; expected {EXPECTED}")
    choose("architecture", architecture.lower(), sorted(known), where=f"model.backbone {name}")
    try:
        return smp.create_model(architecture, encoder, encoder_weights="imagenet" if pretrained else None)
    except (KeyError, ValueError, TypeError) as error:
        reason = str(error.args[0] if error.args else error)
        # cut, as the message may list every encoder of the library
        raise InputError(f"model.backbone {name!r} is refused by segmentation_models_pytorch: {reason[:300]}") from error
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"cannot fetch the ImageNet weights of {encoder} ({type(error).__name__}: {str(error)[:200]}); set model.weights to a "
            "file with the encoder's state dict, or model.pretrained to false"
        ) from error


def _normalisation(name: str) -> ImageNetNormalise:
    """What the encoder's weights expect; the library says it without a download for timm's encoders, and the others take ImageNet's."""
    import timm

    encoder = name.rsplit("/", 1)[-1]
    published = timm.get_pretrained_cfg(encoder.removeprefix("tu-")) if encoder.startswith("tu-") else None
    return ImageNetNormalise() if published is None else ImageNetNormalise(published.mean, published.std)


def _load(encoder: nn.Module, name: str, path: Path) -> None:
    state = read_state_dict(path, encoder.state_dict().keys())
    try:
        encoder.load_state_dict(state)
    except (RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} does not hold the encoder of {name}: {reason}") from error
