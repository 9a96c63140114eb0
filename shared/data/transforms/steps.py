"""What joint transforms are made of.

Built on torchvision's v2 transforms, so every random draw comes from torch's global generator. Pixels stay uint8 until the image has
its final size. Ids are resized to the nearest pixel centre, which is where antialiased images have that pixel too. Pixels
outside the picture get `IGNORE_INDEX` in both maps and 0 in the normalised image.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional
from torchvision.tv_tensors import Image, Mask, TVTensor, wrap

from shared.constants import IGNORE_INDEX
from shared.data.spec import Sample
from shared.errors import InputError

Size = tuple[int, int]
"""(height, width) in pixels."""


class JointTransform:
    """Applies torchvision v2 transforms, in order, to all parts of a sample."""

    def __init__(self, *steps: v2.Transform) -> None:
        self.steps = v2.Compose(list(steps))

    def __call__(self, sample: Sample) -> Sample:
        maps = [sample.label_map] if sample.instance_map is None else [sample.label_map, sample.instance_map]
        # one list, so that a step without parameters keeps the number of parts
        parts = self.steps([Image(sample.image), *map(Mask, maps)])
        image, label_map, *rest = (part.as_subclass(torch.Tensor) for part in parts)
        return replace(sample, image=image, label_map=label_map, instance_map=rest[0] if rest else None)


class Resize(v2.Transform):
    """Resize to `new_size(height, width)` of the picture that comes."""

    def __init__(self, new_size: Callable[[int, int], Size], interpolation: InterpolationMode) -> None:
        super().__init__()
        self.new_size, self.interpolation = new_size, interpolation

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"size": self.new_size(*functional.get_size(flat_inputs[0]))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return resize(inpt, params["size"], self.interpolation)


class Crop(v2.Transform):
    """Cut out `size`, or all there is of it."""

    def __init__(self, size: Size, random: bool) -> None:
        super().__init__()
        self.size, self.random = size, random

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = available = functional.get_size(flat_inputs[0])
        kept = min(height, self.size[0]), min(width, self.size[1])
        top, left = (random_offset(a, k) if self.random else (a - k) // 2 for a, k in zip(available, kept))
        return {"top": top, "left": left, "height": kept[0], "width": kept[1]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return functional.crop(inpt, **params)


class PadTo(v2.Transform):
    """Fill up to `size` at the right and at the bottom."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = functional.get_size(flat_inputs[0])
        return {"padding": [0, 0, self.size[1] - width, self.size[0] - height]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not any(params["padding"]):
            return inpt
        return functional.pad(inpt, params["padding"], fill=IGNORE_INDEX if isinstance(inpt, Mask) else 0.0)


def mirror(flip: bool) -> list[v2.Transform]:
    """Mirror half of the samples left to right, or none."""
    return [v2.RandomHorizontalFlip()] if flip else []


def normalise(mean: tuple[float, ...], std: tuple[float, ...]) -> list[v2.Transform]:
    """Bytes to float32 in [0, 1], less `mean`, over `std`."""
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]


def resize(part: TVTensor, size: Size, interpolation: InterpolationMode) -> TVTensor:
    """Resize an image or, to the nearest pixel centre, ids (exact up to 2**24: torchvision passes them through float32)."""
    if isinstance(part, Mask):
        ids = functional.resize_image(part.as_subclass(torch.Tensor)[None], list(size), InterpolationMode.NEAREST_EXACT)[0]
        return wrap(ids, like=part)
    return functional.resize(part, list(size), interpolation, antialias=True)


def random_offset(available: int, wanted: int) -> int:
    """A random position of `wanted` pixels among `available`."""
    return int(torch.randint(available - wanted + 1, ()))


def require_sizes(*sizes: Size | None) -> None:
    """Raise InputError for a size with a side below 1."""
    for size in sizes:
        if size is not None and min(size) < 1:
            raise InputError(f"size {size[0]}x{size[1]} (height x width) is not valid; both sides must be at least 1")
