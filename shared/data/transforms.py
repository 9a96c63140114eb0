"""Joint transforms of an image, its label map and its instance map: callables Sample -> Sample.

Built on torchvision's v2 transforms, so every random draw comes from torch's global generator. Pixels stay uint8 until the image has
its final size. Ids are resized to the nearest pixel centre, which is where antialiased images have that pixel too. Pixels
outside the picture get `IGNORE_INDEX` in both maps and 0 in the normalised image.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional
from torchvision.tv_tensors import Image, Mask, TVTensor, wrap

from shared.constants import IGNORE_INDEX, IMAGENET_MEAN, IMAGENET_STD
from shared.data.spec import Sample
from shared.errors import InputError

Size = tuple[int, int]
"""(height, width) in pixels."""

SynthMode = Literal[
    "fixed", "resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "scale_shortside", "scale_shortside_and_crop", "none"
]


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


class TrainCrop(JointTransform):
    """Random scale, crop and flip, optional colour jitter, ImageNet normalisation: for training segmentation.

    Args:
        size: (height, width) of the result.
        resize: (height, width) to which every picture is resized first; None: as stored.
        scale: smallest and largest factor by which the picture is enlarged before the crop, drawn evenly.
        flip: mirror half of the samples left to right.
        jitter: brightness, contrast and saturation change by factors in [1 − jitter, 1 + jitter]; 0 is off.

    Raises:
        InputError: a size below 1, a scale range that is empty or reaches 0, or a jitter outside 0..1.
    """

    def __init__(
        self, size: Size, *, resize: Size | None = None, scale: tuple[float, float] = (0.5, 2.0), flip: bool = True, jitter: float = 0.0
    ) -> None:
        _require_sizes(size, resize)
        if not 0 < scale[0] <= scale[1]:
            raise InputError(f"scale range {scale[0]}..{scale[1]} is not valid; expected 0 < smallest <= largest")
        if not 0 <= jitter <= 1:
            raise InputError(f"colour jitter {jitter} is not valid; expected 0 (off) to 1")
        colour = [v2.ColorJitter(jitter, jitter, jitter)] if jitter else []
        cut = [*_resize_to(resize), _RandomScaleCrop(size, scale), *_mirror(flip)]
        super().__init__(*cut, *colour, *_normalise(IMAGENET_MEAN, IMAGENET_STD), _PadTo(size))


class EvalResize(JointTransform):
    """ImageNet normalisation, after a resize to `size` (height, width) where one is given: for evaluating segmentation."""

    def __init__(self, size: Size | None = None) -> None:
        _require_sizes(size)
        super().__init__(*_resize_to(size), *_normalise(IMAGENET_MEAN, IMAGENET_STD))


class SynthTransform(JointTransform):
    """Resize, crop and flip to images in [-1, 1]: for synthesis. Images are resized bicubically.

    Args:
        size: (height, width) of the result; in the modes without a fixed result, what `mode` says.
        mode: fixed: resized to `size`, whatever the proportions.
            resize_and_crop: resized to `load_size`, then cropped. crop: cropped only.
            scale_width[_and_crop]: resized in proportion to the width of `load_size`[, then cropped].
            scale_shortside[_and_crop]: resized in proportion until the short side is the smaller of `load_size`[, then cropped].
            none: as it is. Without a crop, scale_width, scale_shortside and none round both sides to a multiple of `multiple`.
        load_size: (height, width) before the crop; None: `size`.
        flip: mirror half of the samples left to right.
        random_crop: crop at a random place; False: from the middle.
        multiple: pixels.

    Raises:
        InputError: a size below 1; `load_size` in a mode that does not crop after a resize, or smaller than `size`.
    """

    def __init__(
        self,
        size: Size,
        *,
        mode: SynthMode = "resize_and_crop",
        load_size: Size | None = None,
        flip: bool = True,
        random_crop: bool = True,
        multiple: int = 32,
    ) -> None:
        _require_sizes(size, load_size)
        if load_size is not None and not mode.endswith("_and_crop"):
            raise InputError(f"mode {mode} does not resize before a crop, so load size {load_size} has no use; leave it out")
        if load_size is not None and (load_size[0] < size[0] or load_size[1] < size[1]):
            raise InputError(f"load size {load_size} is smaller than the crop {size} (height, width); make it at least as large")
        target = load_size or size
        unit = 1 if mode.endswith("crop") else multiple
        sizes: dict[str, Callable[[int, int], Size]] = {
            "fixed": partial(_exactly, target=size),
            "resize": partial(_exactly, target=target),
            "scale_width": partial(_scale_width, target=target[1], unit=unit),
            "scale_shortside": partial(_scale_shortside, target=min(target), unit=unit),
            "crop": partial(_rounded, unit=1),
            "none": partial(_rounded, unit=unit),
        }
        resize = _Resize(sizes[mode.removesuffix("_and_crop")], InterpolationMode.BICUBIC)
        crop = [_Crop(size, random_crop)] if mode.endswith("crop") else []
        pad = [_PadTo(size)] if crop else []
        super().__init__(resize, *crop, *_mirror(flip), *_normalise((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), *pad)


# ---- new sizes -------------------------------------------------------------------------------------------------------


def _exactly(height: int, width: int, *, target: Size) -> Size:
    return target


def _rounded(height: float, width: float, *, unit: int) -> Size:
    return max(1, round(height / unit)) * unit, max(1, round(width / unit)) * unit


def _scale_width(height: int, width: int, *, target: int, unit: int) -> Size:
    return _rounded(height * target / width, target, unit=unit)


def _scale_shortside(height: int, width: int, *, target: int, unit: int) -> Size:
    scale = target / min(height, width)
    return _rounded(height * scale, width * scale, unit=unit)


def _require_sizes(*sizes: Size | None) -> None:
    for size in sizes:
        if size is not None and min(size) < 1:
            raise InputError(f"size {size[0]}x{size[1]} (height x width) is not valid; both sides must be at least 1")


# ---- steps -----------------------------------------------------------------------------------------------------------


def _resized(size: Size | None) -> list[v2.Transform]:
    return [] if size is None else [_Resize(partial(_exactly, target=size), InterpolationMode.BILINEAR)]


def _mirror(flip: bool) -> list[v2.Transform]:
    return [v2.RandomHorizontalFlip()] if flip else []


def _resize_to(size: Size | None) -> list[v2.Transform]:
    return [] if size is None else [_Resize(partial(_exactly, target=size), InterpolationMode.BILINEAR)]


def _normalise(mean: tuple[float, ...], std: tuple[float, ...]) -> list[v2.Transform]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]


def _resize(part: TVTensor, size: Size, interpolation: InterpolationMode) -> TVTensor:
    """Resize an image or, to the nearest pixel centre, ids (exact up to 2**24: torchvision passes them through float32)."""
    if isinstance(part, Mask):
        ids = functional.resize_image(part.as_subclass(torch.Tensor)[None], list(size), InterpolationMode.NEAREST_EXACT)[0]
        return wrap(ids, like=part)
    return functional.resize(part, list(size), interpolation, antialias=True)


def _offset(available: int, wanted: int) -> int:
    """A random position of `wanted` pixels among `available`."""
    return int(torch.randint(available - wanted + 1, ()))


class _Resize(v2.Transform):
    def __init__(self, new_size: Callable[[int, int], Size], interpolation: InterpolationMode) -> None:
        super().__init__()
        self.new_size, self.interpolation = new_size, interpolation

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"size": self.new_size(*functional.get_size(flat_inputs[0]))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return _resize(inpt, params["size"], self.interpolation)


class _Crop(v2.Transform):
    """Cut out `size`, or all there is of it."""

    def __init__(self, size: Size, random: bool) -> None:
        super().__init__()
        self.size, self.random = size, random

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = available = functional.get_size(flat_inputs[0])
        kept = min(height, self.size[0]), min(width, self.size[1])
        top, left = (_offset(a, k) if self.random else (a - k) // 2 for a, k in zip(available, kept))
        return {"top": top, "left": left, "height": kept[0], "width": kept[1]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return functional.crop(inpt, **params)


class _RandomScaleCrop(v2.Transform):
    """Enlarge by a random factor and cut out `size`, in the cheaper order: cut out what will be seen, then resize that."""

    def __init__(self, size: Size, scale: tuple[float, float]) -> None:
        super().__init__()
        self.size, self.scale = size, scale

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        scale = float(torch.empty(()).uniform_(*self.scale))
        available = functional.get_size(flat_inputs[0])
        seen = [min(a, max(1, round(side / scale))) for a, side in zip(available, self.size)]
        top, left = (_offset(a, s) for a, s in zip(available, seen))
        window = {"top": top, "left": left, "height": seen[0], "width": seen[1]}
        # rounding the window must not leave a row or column to pad where the picture goes on
        size = [side if s < a else min(side, round(s * scale)) for a, s, side in zip(available, seen, self.size)]
        return {"window": window, "size": [max(1, side) for side in size]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return _resize(functional.crop(inpt, **params["window"]), params["size"], InterpolationMode.BILINEAR)


class _PadTo(v2.Transform):
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
