"""Transforms for segmentation: images are resized bilinearly and normalised as ImageNet's."""

from functools import partial
from typing import Any

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

from shared.constants import IMAGENET_MEAN, IMAGENET_STD
from shared.data.transforms.steps import JointTransform, PadTo, Resize, Size, mirror, normalise, random_offset, require_sizes, resize
from shared.errors import InputError


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
        require_sizes(size, resize)
        if not 0 < scale[0] <= scale[1]:
            raise InputError(f"scale range {scale[0]}..{scale[1]} is not valid; expected 0 < smallest <= largest")
        if not 0 <= jitter <= 1:
            raise InputError(f"colour jitter {jitter} is not valid; expected 0 (off) to 1")
        colour = [v2.ColorJitter(jitter, jitter, jitter)] if jitter else []
        cut = [*_resize_to(resize), _RandomScaleCrop(size, scale), *mirror(flip)]
        super().__init__(*cut, *colour, *normalise(IMAGENET_MEAN, IMAGENET_STD), PadTo(size))


class EvalResize(JointTransform):
    """ImageNet normalisation, after a resize to `size` (height, width) where one is given: for evaluating segmentation."""

    def __init__(self, size: Size | None = None) -> None:
        require_sizes(size)
        super().__init__(*_resize_to(size), *normalise(IMAGENET_MEAN, IMAGENET_STD))


def _resize_to(size: Size | None) -> list[v2.Transform]:
    return [] if size is None else [Resize(partial(_exactly, target=size), InterpolationMode.BILINEAR)]


def _exactly(height: int, width: int, *, target: Size) -> Size:
    return target


class _RandomScaleCrop(v2.Transform):
    """Enlarge by a random factor and cut out `size`, in the cheaper order: cut out what will be seen, then resize that."""

    def __init__(self, size: Size, scale: tuple[float, float]) -> None:
        super().__init__()
        self.size, self.scale = size, scale

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        scale = float(torch.empty(()).uniform_(*self.scale))
        available = functional.get_size(flat_inputs[0])
        seen = [min(a, max(1, round(side / scale))) for a, side in zip(available, self.size)]
        top, left = (random_offset(a, s) for a, s in zip(available, seen))
        window = {"top": top, "left": left, "height": seen[0], "width": seen[1]}
        # rounding the window must not leave a row or column to pad where the picture goes on
        size = [side if s < a else min(side, round(s * scale)) for a, s, side in zip(available, seen, self.size)]
        return {"window": window, "size": [max(1, side) for side in size]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return resize(functional.crop(inpt, **params["window"]), params["size"], InterpolationMode.BILINEAR)
