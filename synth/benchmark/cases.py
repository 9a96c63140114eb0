"""What is measured: sizes, label maps whose ids are spread over any number of classes, and how often the patches of these repeat.

The gathered convolution and the modulation by rows live on the repetition.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shared.benchmark.suite import BaseCase, Group
from shared.constants import IGNORE_INDEX
from shared.data import build_dataset
from shared.data.config import DataConfig
from shared.errors import InputError
from synth.semantics.patches import Geometry, distinct_patches

MAP_SIZE = 256, 512
"""(height, width) at which label maps are kept; smaller ones are resized from it."""
SMALL_SIZE = 64, 128


GROUPS = {
    "convolution": Group("First convolution, forward and backward", "synth.benchmark.layers:convolution_contestants", ("dense one-hot",)),
    "modulation": Group("Scale and shift, forward and backward", "synth.benchmark.layers:modulation_contestants", ("dense one-hot",)),
    "generator": Group(
        "Generator, forward and backward", "synth.benchmark.networks:generator_contestants", ("published form", "dense one-hot")
    ),
    "step": Group("Training step of both networks", "synth.benchmark.networks:step_contestants", ("published form", "dense one-hot")),
    "discriminators": Group(
        "Training step with each discriminator",
        "synth.benchmark.discriminators:discriminator_contestants",
        ("published one-hot", "one-hot, OASIS"),
    ),
    "options": Group(
        "Training step with each option, embedding OASIS", "synth.benchmark.discriminators:option_contestants", ("as by default",)
    ),
}


@dataclass(frozen=True)
class Case(BaseCase):
    """One size of one kind of work on label maps.

    Attributes:
        channels: of the features that are modulated; of a network its base width (ngf, ndf).
        hidden: channels between the semantics and their scale and shift.
        maps: file with label maps, (M, *MAP_SIZE).
        others: as in `BaseCase`.
    """

    groups: ClassVar = GROUPS

    channels: int
    hidden: int
    maps: str

    @property
    def setting(self) -> dict[str, Any]:
        """See `BaseCase`."""
        return super().setting | {"channels": self.channels, "hidden": self.hidden}

    @property
    def sizes(self) -> str:
        """See `BaseCase`."""
        channels = f", {self.channels} channels" if self.channels else ""
        size = f"{self.images}×{self.height}×{self.width} pixels"
        return f"C {self.classes}, {size}{channels}, hidden {self.hidden}, D {self.dim}"

    def small(self) -> Self:
        """See `BaseCase`."""
        channels = min(self.channels, 4)
        return replace(self, images=1, height=SMALL_SIZE[0], width=SMALL_SIZE[1], channels=channels, classes=min(self.classes, 40))


def save_label_maps(config: DataConfig, count: int, path: Path) -> Tensor:
    """Keep `count` label maps (M, H, W) of the data set's training split, spread evenly over it, in a file for child processes."""
    dataset = build_dataset(config, "train")
    if len(dataset) < count:
        raise InputError(f"data set {dataset.spec.name} has {len(dataset)} training samples, but maps is {count}; ask for fewer")
    chosen = (dataset[len(dataset) * number // count].label_map for number in range(count))
    maps = torch.cat([resized(label_map[None], *MAP_SIZE) for label_map in chosen])
    np.save(path, maps.numpy())
    return maps


def label_maps(case: Case) -> Tensor:
    """(images, height, width) int64 with ids in [−1, C), on the case's device."""
    maps = torch.from_numpy(np.load(case.maps, allow_pickle=False))
    if len(maps) < case.images:
        raise InputError(f"there are {len(maps)} label maps, but images is {case.images}; give at least as many maps")
    return spread(resized(maps[: case.images], case.height, case.width), int(maps.max()) + 1, case.classes).to(case.device)


def resized(maps: Tensor, height: int, width: int) -> Tensor:
    """(N, h, w) -> (N, height, width), nearest."""
    return F.interpolate(maps[:, None].float(), (height, width), mode="nearest")[:, 0].long()


def spread(maps: Tensor, num_ids: int, num_classes: int) -> Tensor:
    """Ids below `num_ids` to ids below `num_classes`, evenly over them; where there are fewer classes than ids, ids modulo C."""
    ids = maps * num_classes // num_ids if num_classes >= num_ids else maps % num_classes
    return torch.where(maps == IGNORE_INDEX, maps, ids)


SIZES = ((4, 8), (8, 16), (16, 32), (32, 64), (64, 128), (128, 256), (256, 512))
WINDOW = Geometry((3, 3), (1, 1), (1, 1))


@dataclass(frozen=True)
class Share:
    """Distinct patches over pixels of single label maps, on average, in [0, 1].

    Attributes:
        height, width: of the maps.
        small, wide: of 3×3 and 5×5 pixels.
    """

    height: int
    width: int
    small: float
    wide: float


def distinct_shares(maps: Tensor, sizes: Sequence[tuple[int, int]] = SIZES) -> list[Share]:
    """maps: (M, H, W) int64 with −1 for ignored pixels. sizes: to which they are resized."""
    return [_share(resized(maps, *size) + 1, int(maps.max()) + 2) for size in sizes]


def _share(maps: Tensor, num_ids: int) -> Share:
    found = [distinct_patches(ids[None], num_ids, WINDOW) for ids in maps]
    small, wide = (sum(len(patches.members) for patches in group) / maps.numel() for group in (found, [patches.wider for patches in found]))
    return Share(maps.shape[1], maps.shape[2], small, wide)
