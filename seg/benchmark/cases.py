"""What is measured: sizes, the paper's settings, and made-up pixel embeddings that look like a network's."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F

from shared.benchmark.suite import BaseCase, Group
from shared.constants import IGNORE_INDEX

TEMPERATURE = 0.05
STRIDE = 4  # of the features that are upsampled to pixels
BLOB = 32  # pixels, typical size of an area of one class
NOISE = 0.6  # length of the vector that is added to a pixel's class embedding
IGNORED_SHARE = 0.05

RUNS_ON = {"numba": "cpu", "triton": "cuda"}
"""Device of the implementations and search backends that have only one."""


GROUPS = {
    "losses": Group("Loss, forward and backward", "seg.benchmark.losses:loss_contestants", ("released way", "dense softmax")),
    "search": Group("Search for the nearest classes", "seg.benchmark.searches:search_contestants", ("FAISS",)),
    "head training": Group("Head and loss, forward and backward", "seg.benchmark.heads:training_contestants", ("softmax",)),
    "head inference": Group("Head, inference", "seg.benchmark.heads:inference_contestants", ("softmax",)),
    "paper": Group(
        "Loss at the paper's size, forward and backward", "seg.benchmark.losses:paper_contestants", ("released way", "dense softmax")
    ),
    "training step": Group("Training step of the whole network", "seg.benchmark.whole_model:step_contestants", ("softmax",)),
    "swap": Group("Training step of torchvision's DeepLabV3", "seg.benchmark.swap:swap_contestants", ("class scores",)),
}


@dataclass(frozen=True)
class Case(BaseCase):
    """One size of one kind of work on pixels and classes.

    Attributes:
        neighbours: K.
        title: name of the setting, such as a data set's; may be empty.
        others: as in `BaseCase`.
    """

    groups: ClassVar = GROUPS

    neighbours: int
    title: str = ""

    @property
    def setting(self) -> dict[str, Any]:
        """See `BaseCase`."""
        return super().setting | {"neighbours": self.neighbours} | ({"title": self.title} if self.title else {})

    @property
    def sizes(self) -> str:
        """See `BaseCase`."""
        name = f"{self.title}, " if self.title else ""
        size = f"{self.images}×{self.height}×{self.width} = {self.pixels:,} pixels"
        return f"{name}C {self.classes}, D {self.dim}, k {self.neighbours}, {size}"

    def small(self) -> Self:
        """See `BaseCase`."""
        return replace(self, images=1, height=min(self.height, 32), width=min(self.width, 32))


class Setting(NamedTuple):
    """A row of the paper's Table 1."""

    classes: int
    height: int
    width: int
    softmax_batch: int
    batch: int
    dim: int
    neighbours: int


PAPER_SETTINGS = {
    "cityscapes": Setting(19, 400, 800, softmax_batch=14, batch=10, dim=7, neighbours=6),
    "voc": Setting(21, 512, 512, softmax_batch=14, batch=10, dim=7, neighbours=8),
    "ade20k": Setting(150, 512, 512, softmax_batch=8, batch=10, dim=12, neighbours=7),
    "cocostuff10k": Setting(182, 512, 512, softmax_batch=7, batch=10, dim=12, neighbours=7),
    "cocolvis": Setting(1284, 450, 450, softmax_batch=2, batch=10, dim=12, neighbours=8),
}


def image_size(pixels: int) -> tuple[int, int]:
    """(height, width) of an image of at most this many pixels, about 4 to 5."""
    height = max(1, math.isqrt(4 * pixels // 5))
    return height, pixels // height


class Inputs(NamedTuple):
    """Pixel embeddings (N, D, H, W) and class embeddings (C, D) of unit norm, both to be differentiated by, and labels (N, H, W) int64."""

    pixels: torch.Tensor
    classes: torch.Tensor
    labels: torch.Tensor


def make_inputs(case: Case) -> Inputs:
    """What DeepLabV3+ gives in mid training: areas of one class, few classes with most of the pixels, vectors near their class.

    At stride 4 a pixel is its class embedding with noise; bilinear upsampling mixes neighbours, and the result has unit norm.
    """
    generator = torch.Generator().manual_seed(case.seed)
    classes = F.normalize(torch.rand(case.classes, case.dim, generator=generator) * 2 - 1)
    labels = label_map(case, generator)
    coarse = labels[:, ::STRIDE, ::STRIDE]
    noise = torch.randn(*coarse.shape, case.dim, generator=generator) * (NOISE / math.sqrt(case.dim))
    features = (classes[coarse] + noise).permute(0, 3, 1, 2).contiguous()
    pixels = F.normalize(_upsample(features, labels.shape[1:]))
    labels[torch.rand(labels.shape, generator=generator) < IGNORED_SHARE] = IGNORE_INDEX
    device = torch.device(case.device)
    return Inputs(pixels.to(device).requires_grad_(), classes.to(device).requires_grad_(), labels.to(device))


def label_map(case: Case, generator: torch.Generator) -> torch.Tensor:
    """(N, H, W) int64: irregular areas whose classes have frequencies 1, 1/2, 1/3, …"""
    frequencies = 1 / torch.arange(1, case.classes + 1)
    rows, columns = case.height // BLOB + 2, case.width // BLOB + 2
    areas = torch.multinomial(frequencies, case.images * rows * columns, replacement=True, generator=generator)
    size = (case.height, case.width)
    shift = _upsample(torch.randn(case.images, 2, 2 * rows, 2 * columns, generator=generator), size)
    places = torch.stack(torch.meshgrid(torch.arange(size[0]) / BLOB, torch.arange(size[1]) / BLOB, indexing="ij")) + 0.5 + shift / 2
    row, column = places[:, 0].long().clamp(0, rows - 1), places[:, 1].long().clamp(0, columns - 1)
    image = torch.arange(case.images)[:, None, None]
    return areas.view(case.images, rows, columns)[image, row, column]


def _upsample(features: torch.Tensor, size: tuple[int, ...] | torch.Size) -> torch.Tensor:
    """As the network does; written again, because a child process would spend seconds on importing all of that."""
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


def part_of(inputs: Inputs, pixels: int) -> Inputs:
    """About this many of the pixels, spread evenly, as one image of one row."""
    step = max(1, inputs.labels.numel() // pixels)
    chosen = inputs.pixels.detach().movedim(1, -1).flatten(0, 2)[::step].T[None, :, None].contiguous()
    return Inputs(chosen.requires_grad_(), inputs.classes.detach().requires_grad_(), inputs.labels.flatten()[::step][None, None])


def device_obstacle(name: str, case: Case) -> str:
    """Why an implementation or a search backend does not run on the device of the case; empty where it does."""
    needed = RUNS_ON.get(name, case.device)
    return "" if needed == case.device else f"runs on {needed} only"
