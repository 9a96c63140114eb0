"""What joint transforms are made of.

A step takes and gives the parts of a sample: the image (3, H, W) first, then its maps of ids (H, W). Resampling and colours are
torchvision's, which is imported at the first picture: it takes seconds, and a refusal or --help needs none of it. Every random draw comes
from torch's global generator. Pixels stay uint8 until the image has its final size. Ids are resized to the nearest pixel centre, which
is where antialiased images have that pixel too. Pixels outside the picture get `IGNORE_INDEX` in the maps and a middle grey in the image.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from shared.constants import IGNORE_INDEX
from shared.data.spec import Sample
from shared.errors import InputError

Size = tuple[int, int]
"""(height, width) in pixels."""

Interpolation = Literal["bilinear", "bicubic"]
"""Of images; both are antialiased."""

UNIT_GREY, SIGNED_GREY = 0.5, 0.0
"""The middle grey of images in [0, 1] and in [-1, 1]."""

Parts = list[Tensor]
Step = Callable[[Parts], Parts]


@cache
def torchvision_v2() -> ModuleType:
    """torchvision's transforms."""
    from torchvision.transforms import v2

    return v2


class JointTransform:
    """Applies steps, in order, to all parts of a sample."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps

    def __call__(self, sample: Sample) -> Sample:
        parts = [sample.image, sample.label_map] + ([] if sample.instance_map is None else [sample.instance_map])
        for step in self.steps:
            parts = step(parts)
        image, label_map, *rest = parts
        return replace(sample, image=image, label_map=label_map, instance_map=rest[0] if rest else None)


class Resize:
    """Resize to `new_size(height, width)` of the picture that comes."""

    def __init__(self, new_size: Callable[[int, int], Size], interpolation: Interpolation) -> None:
        self.new_size, self.interpolation = new_size, interpolation

    def __call__(self, parts: Parts) -> Parts:
        return resize(parts, self.new_size(*size_of(parts)), self.interpolation)


class Crop:
    """Cut out `size`, or all there is of it."""

    def __init__(self, size: Size, random: bool) -> None:
        self.size, self.random = size, random

    def __call__(self, parts: Parts) -> Parts:
        height, width = available = size_of(parts)
        kept = min(height, self.size[0]), min(width, self.size[1])
        top, left = (random_offset(a, k) if self.random else (a - k) // 2 for a, k in zip(available, kept))
        return cut_out(parts, (top, left), kept)


class PadTo:
    """Fill up to `size` at the right and at the bottom; the image with the value `fill`."""

    def __init__(self, size: Size, fill: float) -> None:
        self.size, self.fill = size, fill

    def __call__(self, parts: Parts) -> Parts:
        height, width = size_of(parts)
        padding = (0, self.size[1] - width, 0, self.size[0] - height)
        if not any(padding):
            return parts
        image, *maps = parts
        return [
            torch.nn.functional.pad(image, padding, value=self.fill),
            *(torch.nn.functional.pad(ids, padding, value=IGNORE_INDEX) for ids in maps),
        ]


class ColourJitter:
    """Brightness, contrast and saturation of the image change by factors in [1 − strength, 1 + strength]."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, parts: Parts) -> Parts:
        return [torchvision_v2().ColorJitter(self.strength, self.strength, self.strength)(parts[0]), *parts[1:]]


def to_unit(parts: Parts) -> Parts:
    """Bytes of the image to float32 in [0, 1]."""
    return [torchvision_v2().functional.to_dtype(parts[0], torch.float32, scale=True), *parts[1:]]


def to_signed(parts: Parts) -> Parts:
    """Bytes of the image to float32 in [-1, 1]."""
    image, *maps = to_unit(parts)
    return [(image - 0.5) / 0.5, *maps]


def mirror(parts: Parts) -> Parts:
    """Mirror half of the samples left to right."""
    return [part.flip(-1) for part in parts] if torch.rand(1) < 0.5 else parts


def size_of(parts: Parts) -> Size:
    """Height and width of the picture."""
    return parts[1].shape[0], parts[1].shape[1]


def cut_out(parts: Parts, corner: tuple[int, int], size: Size) -> Parts:
    """The window of that size whose (top, left) is `corner`, which lies inside the picture."""
    rows, columns = (slice(start, start + length) for start, length in zip(corner, size))
    return [part[..., rows, columns] for part in parts]


def resize(parts: Parts, size: Size, interpolation: Interpolation) -> Parts:
    """Resize the image and, to the nearest pixel centre, the ids (exact up to 2**24: torchvision passes them through float32)."""
    v2 = torchvision_v2()
    image, *maps = parts
    nearest = v2.InterpolationMode.NEAREST_EXACT
    return [
        v2.functional.resize(image, list(size), v2.InterpolationMode(interpolation), antialias=True),
        *(v2.functional.resize(ids[None], list(size), nearest)[0] for ids in maps),
    ]


def random_offset(available: int, wanted: int) -> int:
    """A random position of `wanted` pixels among `available`."""
    return int(torch.randint(available - wanted + 1, ()))


def require_sizes(*sizes: Size | None) -> None:
    """Raise InputError for a size with a side below 1."""
    for size in sizes:
        if size is not None and min(size) < 1:
            raise InputError(f"size {size[0]}x{size[1]} (height x width) is not valid; both sides must be at least 1")
