"""The transform for synthesis: every published way to bring pictures to size, images in [-1, 1]."""

from functools import partial
from typing import Literal

from shared.data.transforms.steps import SIGNED_GREY, Crop, JointTransform, PadTo, Resize, Size, mirror, require_sizes, to_signed
from shared.errors import InputError

SynthMode = Literal[
    "fixed", "resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "scale_shortside", "scale_shortside_and_crop", "none"
]

CROPPING_MODES: tuple[SynthMode, ...] = ("resize_and_crop", "crop", "scale_width_and_crop", "scale_shortside_and_crop")
SIZED_MODES: tuple[SynthMode, ...] = ("fixed", *CROPPING_MODES)
"""Modes that give every picture the same size."""


class SynthTransform(JointTransform):
    """Resize, crop and flip to images in [-1, 1]. Images are resized bicubically.

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
        require_sizes(size, load_size)
        if load_size is not None and not mode.endswith("_and_crop"):
            raise InputError(f"mode {mode} does not resize before a crop, so load size {load_size} has no use; leave it out")
        if load_size is not None and (load_size[0] < size[0] or load_size[1] < size[1]):
            raise InputError(f"load size {load_size} is smaller than the crop {size} (height, width); make it at least as large")
        cropped = mode in CROPPING_MODES
        new_size = partial(_new_size, mode=mode, target=load_size or size, unit=None if cropped else multiple)
        crop = [Crop(size, random_crop)] if cropped else []
        pad = [PadTo(size, fill=SIGNED_GREY)] if cropped else []
        flips = [mirror] if flip else []
        super().__init__(Resize(new_size, "bicubic"), *crop, *flips, to_signed, *pad)


def _new_size(height: int, width: int, *, mode: SynthMode, target: Size, unit: int | None) -> Size:
    """The size before a crop. Proportional ones are rounded down, as published, or to the nearest multiple of `unit` pixels."""
    if mode in ("fixed", "resize_and_crop"):
        return target
    scales = {"scale_width": (target[1], width), "scale_shortside": (min(target), min(height, width))}
    wanted, given = scales.get(mode.removesuffix("_and_crop"), (1, 1))
    if unit is None:
        return max(1, height * wanted // given), max(1, width * wanted // given)
    return _nearest(height * wanted / given, unit), _nearest(width * wanted / given, unit)


def _nearest(length: float, unit: int) -> int:
    return max(1, round(length / unit)) * unit
