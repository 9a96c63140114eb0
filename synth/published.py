"""The published SPADE models: their state dicts, read without running code, and how they order the channels of their semantic map.

Our order is: classes, ignored pixels, instance edges if any; the discriminator's first kernel goes on with the image.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from shared.errors import InputError
from shared.files.weights import read_state_dict, state_dict_of

Network = TypeVar("Network", bound=nn.Module)
Source = str | PathLike[str] | Mapping[str, Tensor]
"""A .pth file, or the state dict that such a file holds."""
SIGNS = {
    "head_0.": "a SPADE generator",
    "discriminator_0.": "a SPADE discriminator",
    "fc_mu.": "a SPADE style encoder",
    "body.": "an OASIS generator, which is another network",
    "body_down.": "an OASIS discriminator, which is another network",
    "model.": "a pix2pixHD generator, which is another network",
}
"""What a file holds, by the beginning of a key."""
FIRST_TENSOR = {
    "head_0.": "head_0.conv_0.bias",
    "discriminator_0.": "discriminator_0.model0.0.weight",
    "fc_mu.": "fc_mu.weight",
}
"""A tensor that each of our three networks has in its file."""


@dataclass(frozen=True)
class LabelConvention:
    """What the channels of a published semantic map are.

    Attributes:
        unknown: place of the channel for ignored pixels: after the classes, before them, or nowhere: then such a pixel shows no class.
        instance_edges: whether the last channel marks the borders of instances.
    """

    unknown: Literal["last", "first", "none"] = "last"
    instance_edges: bool = False

    def num_classes(self, channels: int) -> int:
        """Classes among the `channels` of a published semantic map.

        Raises:
            InputError: none is left.
        """
        classes = channels - self.instance_edges - (self.unknown != "none")
        if classes < 1:
            raise InputError(f"a semantic map of {channels} channels has no room for a class beside {self}")
        return classes

    def to_ours(self, kernel: Tensor, num_classes: int) -> Tensor:
        """(O, published channels, kh, kw) -> (O, ours, kh, kw); a channel that is missing there is zero here."""
        if self.unknown == "last":
            return kernel
        if self.unknown == "first":
            ignored, classes, rest = kernel.split([1, num_classes, kernel.shape[1] - num_classes - 1], 1)
        else:
            classes, rest = kernel.split([num_classes, kernel.shape[1] - num_classes], 1)
            # zeros: such a pixel showed nothing there, and shows nothing here
            ignored = torch.zeros_like(kernel[:, :1])
        return torch.cat([classes, ignored, rest], 1)

    def to_published(self, kernel: Tensor, num_classes: int) -> Tensor:
        """The inverse of `to_ours`.

        Raises:
            InputError: ignored pixels have learned to show something, and the published map has no channel for them.
        """
        if self.unknown == "last":
            return kernel
        classes, ignored, rest = kernel.split([num_classes, 1, kernel.shape[1] - num_classes - 1], 1)
        if self.unknown == "first":
            return torch.cat([ignored, classes, rest], 1)
        if ignored.any():
            raise InputError("the kernels answer to ignored pixels, for which a map with unknown 'none' has no channel; save with 'last'")
        return torch.cat([classes, rest], 1)


@dataclass(frozen=True)
class PublishedModel:
    """The options of a published model that its weights do not tell.

    Attributes:
        channels, labels: number and meaning of the channels of its semantic map.
        crop_size, aspect_ratio, upsampling: see `published_image_size`.
        label_offset, ignore_value: numbers in its label files, of the first class and of ignored pixels.
    """

    channels: int
    labels: LabelConvention
    crop_size: int
    aspect_ratio: float
    upsampling: str
    label_offset: int
    ignore_value: int

    @property
    def num_classes(self) -> int:
        return self.labels.num_classes(self.channels)


PUBLISHED_MODELS = {
    "cityscapes": PublishedModel(36, LabelConvention("none", True), 512, 2.0, "more", 0, 255),
    "coco": PublishedModel(184, LabelConvention("last", True), 256, 1.0, "normal", 0, 255),
    # Its training meant to move the unknown class from 0 to the end, but the shift was lost: channel 0 is the unknown class.
    "ade20k": PublishedModel(151, LabelConvention("first", False), 256, 1.0, "normal", 1, 0),
}


def convention_of(channels: int) -> LabelConvention:
    """The plain convention, classes and then the unknown one, for maps of which nothing is said.

    Raises:
        InputError: a published model with this number of channels follows another convention, so somebody has to say which it is.
    """
    plain = LabelConvention()
    for name, model in PUBLISHED_MODELS.items():
        if model.channels == channels:
            raise InputError(
                f"{channels} semantic channels: what they are cannot be read off the weights; the published {name} model has "
                f"{model.num_classes} classes and {model.labels}; say labels={model.labels}, or {plain} if that fits"
            )
    return plain


def onehot_kernel(kernel: Tensor, table: Tensor | None) -> Tensor:
    """The kernel that answers to the one-hot map as `kernel` does to its rows in `table`: (O, S + …, kh, kw) -> (O, C + 1 + …, kh, kw).

    table: (C + 1, S), or None for one-hot. Convolution is linear: kernel ∗ (table · one-hot) = (kernel · table) ∗ one-hot. Edge and image
    channels, which follow, stay as they are.
    """
    if table is None:
        return kernel
    size = table.shape[1]
    return torch.cat([torch.einsum("cs,oshw->ochw", table, kernel[:, :size]), kernel[:, size:]], 1)


def read_state(source: Source, sign: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of `source`, and what to call it in messages.

    Args:
        sign: the beginning in `SIGNS` of what is expected.

    Raises:
        InputError: no such file, unreadable, no state dict, or one of another network. Code in a file is never run.
    """
    where = "the state dict" if isinstance(source, Mapping) else str(source)
    known = (FIRST_TENSOR[sign],)  # in a file of several networks this one is under a name of its own, such as netG.
    state = state_dict_of(source, where, known) if isinstance(source, Mapping) else read_state_dict(source, known)
    # told by names of tensors: the names of files are anybody's
    found = next((what for start, what in SIGNS.items() if any(key.startswith(start) for key in state)), None)
    if found != SIGNS[sign]:
        found = found or f"{len(state)} tensors such as {next(iter(state))}"
        raise InputError(f"{where} holds {found}; {SIGNS[sign]} was expected")
    return state, where


def require_tensor(state: dict[str, Tensor], key: str, where: str, *dimensions: int) -> Tensor:
    """The tensor of that name, with one of these numbers of dimensions.

    Raises:
        InputError: it is missing, or has another shape.
    """
    if key not in state or state[key].ndim not in dimensions:
        found = f"has shape {tuple(state[key].shape)}" if key in state else "is missing"
        raise InputError(f"{where}: {key} {found}; the file is not complete, or of another network")
    return state[key]


def count_numbers(state: dict[str, Tensor], pattern: str) -> int:
    """How many different numbers the keys have where the pattern has its group."""
    return len({match[1] for key in state if (match := re.fullmatch(pattern, key))})


def load_whole(network: Network, state: dict[str, Tensor], where: str) -> Network:
    """Load all of `state` into the network, which is then in evaluation mode.

    Raises:
        InputError: names the first tensors that are missing, unknown or of another shape.
    """
    own = network.state_dict()
    missing, unknown = [key for key in own if key not in state], [key for key in state if key not in own]
    if missing or unknown:
        listed = [f"{len(keys)} tensors are {word}, first {keys[0]}" for keys, word in ((missing, "missing"), (unknown, "unknown")) if keys]
        raise InputError(f"{where} does not fit the published layout: {'; '.join(listed)}")
    for key, value in own.items():
        if state[key].shape != value.shape:
            raise InputError(f"{where}: {key} has shape {tuple(state[key].shape)}; {tuple(value.shape)} was expected from the others")
    network.load_state_dict(state)
    return network.eval()
