"""Encoders of timm: built as lists of features with an output stride, filled from a state dict, and refused in one line.

timm takes seconds to import, so that it is imported by the first function that needs it, not for the small encoder, a refusal or --help.

Shapes: N images of H×W.
"""

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import InputError
from shared.joint_norm import JointBatchNorm

OURS = ("tiny", "efficientnet_lite0", "mobilenet_v2", "resnet50", "resnet101")
"""Backbones that have a name of ours, see `shared.backbone`; further ones have timm's."""

OUTPUT_STRIDES = (8, 16, 32)
_PROBE = (65, 97)  # pixels, of an image whose sides no stride divides


class Encoder(NamedTuple):
    """A network of timm and what is known of it.

    Attributes:
        network: images (N, 3, H, W) → the features of every stage, finest first.
        channels, strides: of the features.
        mean, std: what its published weights expect of RGB images in [0, 1], per channel.
    """

    network: nn.Module
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def create(name: str, output_stride: int, *, pretrained: bool = False) -> Encoder:
    """An encoder of timm by timm's name, with batch normalisation where it has that.

    Args:
        output_stride: of the last stage. A network that has another by itself keeps the resolution of its last stages and dilates their
            kernels, where it can.
        pretrained: with the weights that timm publishes: from the Hugging Face cache, or downloaded to it.

    Raises:
        InputError: timm knows no such network (the nearest names are given); it gives no features, cannot have this output stride or
            takes images of one size only; or its weights cannot be fetched.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, sorted({*OURS, *timm.list_models()}), n=3)
        hint = f"; the nearest names are {', '.join(near)}" if near else ""
        raise InputError(
            f"unknown backbone {name!r}; choose one of {', '.join(OURS)}, another encoder of timm, or smp/<architecture>/<encoder>{hint}"
        )
    network = _network(name, output_stride, pretrained)
    _pad_by_parity(network)
    channels, strides = tuple(network.feature_info.channels()), tuple(network.feature_info.reduction())
    features = _Features(network)
    _choose_padding(features, name, channels, strides)
    published: Any = timm.get_pretrained_cfg(name)
    return Encoder(features, channels, strides, tuple(published.mean), tuple(published.std))


def _network(name: str, output_stride: int, pretrained: bool) -> Any:
    """timm's network of features, of that output stride."""
    reason = ""
    for dilated in ({"output_stride": output_stride}, {}):
        try:
            network: Any = _created(name, pretrained, dilated)
        except InputError:
            raise
        except Exception as error:  # of many kinds: every family of networks has its own way to refuse an argument
            reason = reason or " ".join(str(error).split())[:200] or type(error).__name__
            continue
        own = network.feature_info.reduction()[-1]
        if own == output_stride:
            return network
        advice = f"; it has output stride {own}: --model.output_stride {own}" if own in OUTPUT_STRIDES and not dilated else ""
        reason = f"{reason or 'it keeps its own'}{advice}"
    raise InputError(f"timm's {name} gives no features of output stride {output_stride}: {reason}")


def _created(name: str, pretrained: bool, dilated: dict[str, Any]) -> nn.Module:
    import timm

    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained, features_only=True, **dilated)
        return network
    except OSError as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(
            f"cannot fetch the weights of timm's {name} ({reason}); set model.weights to a file in timm's layout, or model.pretrained "
            "to false"
        ) from error
    except RuntimeError as error:
        if "No pretrained weights" in str(error):
            raise InputError(f"timm has no weights of {name}; set model.pretrained to false, or model.weights to a file") from error
        raise


class _HalvingConvolution(nn.Conv2d):
    """A convolution of stride 2 whose padding is TensorFlow's "same": one row and column more before an odd side than before an even one.

    timm works the padding out of the number of results, which leaves exporters with expressions that they cannot solve.
    """

    def forward(self, input: Tensor) -> Tensor:
        before, after = (self.kernel_size[0] - 3) // 2, (self.kernel_size[0] - 1) // 2
        height, width = input.shape[2:]
        padded = F.pad(input, (before + width % 2, after, before + height % 2, after))
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


def _pad_by_parity(network: nn.Module) -> None:
    """Put `_HalvingConvolution` in the place of timm's convolutions that do the same."""
    from timm.layers import Conv2dSame

    for name, child in network.named_children():
        if isinstance(child, Conv2dSame) and _halves(child):
            kernel, plain = int(child.kernel_size[0]), child.bias is None
            halving = _HalvingConvolution(child.in_channels, child.out_channels, kernel, 2, groups=child.groups, bias=not plain)
            halving.load_state_dict(child.state_dict())
            setattr(network, name, halving)
        else:
            _pad_by_parity(child)


def _halves(convolution: nn.Conv2d) -> bool:
    kernel = convolution.kernel_size[0]
    shape = (convolution.kernel_size, convolution.stride, convolution.dilation)
    return kernel % 2 == 1 and kernel > 1 and shape == ((kernel, kernel), (2, 2), (1, 1))


class _Features(nn.Module):
    """Features of sizes that round up, as the channels come first.

    Attributes:
        multiple: pixels; images are padded with zeros below and to the right to multiples of it, and the features are cut to match.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
        self.multiple = 1

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[2:]
        if self.multiple > 1:
            images = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
        features = self.network(images)
        if self.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        if self.multiple > 1:
            strides = [images.shape[2] // feature.shape[2] for feature in features]
            features = [feature[:, :, : -(-height // s), : -(-width // s)] for feature, s in zip(features, strides)]
        return list(features)


def _choose_padding(features: _Features, name: str, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """None for a network whose features round up by themselves. Tried with an image that has a shape and no data."""
    expected = [(1, c, *(-(-side // stride) for side in _PROBE)) for c, stride in zip(channels, strides)]
    weights = {key: tensor.to("meta") for key, tensor in features.state_dict(keep_vars=True).items()}
    image = torch.zeros(1, 3, *_PROBE, device="meta")
    was_training = features.training
    found: list[Any] = []
    features.eval()
    for features.multiple in (1, OUTPUT_STRIDES[-1]):
        try:
            with torch.no_grad():
                found = [tuple(feature.shape) for feature in torch.func.functional_call(features, weights, (image,))]
        except Exception as error:  # every family fails in its own way
            found = [" ".join(str(error).split())[:200]]
        if found == expected:
            break
    features.train(was_training)
    if found != expected:
        raise InputError(f"timm's {name} does not take images of any size ({found[0]}); choose a convolutional encoder")


def fill(network: nn.Module, state: dict[str, Tensor], *, by_order: bool = False) -> str:
    """Load the tensors of `state` into a network of `create`.

    Args:
        state: in timm's layout; what the features need not, such as the classifier, may be there or not.
        by_order: where no name fits, take the tensors in their order: the same network under other names.

    Returns:
        What does not fit, in words; empty if everything does, and only then is anything loaded.
    """
    own = {key: tensor for key, tensor in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    given = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    # features_only joins the names of nested modules with underscores
    known = {key.replace(".", "_"): tensor for key, tensor in given.items()}
    found = {key: known.get(_published_name(key)) for key in own}
    if by_order and not any(tensor is not None for tensor in found.values()):
        found = dict(zip(own, given.values()))
    unfilled = [key for key, tensor in own.items() if getattr(found.get(key), "shape", None) != tensor.shape]
    if unfilled:
        first = unfilled[0].removeprefix("network.")
        return f"{len(unfilled)} of its {len(own)} tensors are missing or have another shape, the first is {first}"
    network.load_state_dict({key: tensor for key, tensor in found.items() if tensor is not None}, strict=False)
    return ""


def _published_name(key: str) -> str:
    return key.removeprefix("network.").removeprefix("model.").replace(".", "_")


def replace_norms(network: nn.Module, norm: Callable[[int], nn.Module]) -> None:
    """Put another normalisation in the place of every batch normalisation, with its scale, shift and what follows it.

    norm: constructor, from a number of channels, of a `JointBatchNorm` or a GroupNorm.
    """
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(network, name, _replaced(child, norm(child.num_features)))
        else:
            replace_norms(child, norm)


def _replaced(old: Any, new: Any) -> nn.Module:
    if hasattr(old, "act"):
        joint = isinstance(new, JointBatchNorm)
        activated: Any = _JointNormAct(new.num_features) if joint else _GroupNormAct(new.num_groups, new.num_channels)
        activated.drop, activated.act, new = old.drop, old.act, activated
    new.eps = old.eps
    new.load_state_dict(old.state_dict(), strict=False)
    replaced: nn.Module = new
    return replaced


class _JointNormAct(JointBatchNorm):
    """With timm's activation, which is a part of its batch normalisation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        result: Tensor = self.act(self.drop(super().forward(input)))
        return result


class _GroupNormAct(nn.GroupNorm):
    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        result: Tensor = self.act(self.drop(super().forward(input)))
        return result
