"""Transforms for segmentation: images are resized bilinearly, with values in [0, 1]; the network normalises them as its encoder wants."""

from functools import partial

import numpy as np
import torch

from shared.constants import IGNORE_INDEX
from shared.data.transforms.steps import (
    UNIT_GREY,
    ColourJitter,
    JointTransform,
    PadTo,
    Parts,
    Resize,
    Size,
    Step,
    cut_out,
    mirror,
    random_offset,
    require_sizes,
    resize,
    size_of,
    to_unit,
)
from shared.errors import InputError


class TrainCrop(JointTransform):
    """Random scale, crop and flip, optional colour jitter: for training segmentation.

    Args:
        size: (height, width) of the result.
        resize: (height, width) to which every picture is resized first; None: as stored.
        scale: smallest and largest factor by which the picture is enlarged before the crop, drawn evenly.
        flip: mirror half of the samples left to right.
        jitter: brightness, contrast and saturation change by factors in [1 − jitter, 1 + jitter]; 0 is off.
        class_crop: probability of a crop around a random pixel of a class, which is drawn among those of the picture.
        class_weights: (C,) > 0, weights of that draw; needed where `class_crop` is above 0.

    Raises:
        InputError: a size below 1, a scale range that is empty or reaches 0, or a jitter or probability outside 0..1.
    """

    def __init__(
        self,
        size: Size,
        *,
        resize: Size | None = None,
        scale: tuple[float, float] = (0.5, 2.0),
        flip: bool = True,
        jitter: float = 0.0,
        class_crop: float = 0.0,
        class_weights: np.ndarray | None = None,
    ) -> None:
        require_sizes(size, resize)
        if not 0 < scale[0] <= scale[1]:
            raise InputError(f"scale range {scale[0]}..{scale[1]} is not valid; expected 0 < smallest <= largest")
        if not 0 <= jitter <= 1:
            raise InputError(f"colour jitter {jitter} is not valid; expected 0 (off) to 1")
        if not 0 <= class_crop <= 1:
            raise InputError(f"probability {class_crop} of a crop around a class is not valid; expected 0 (off) to 1")
        centre = None
        if class_crop > 0:
            assert class_weights is not None, "a class is drawn by weights"
            centre = _ClassPixel(class_crop, class_weights)
        colour = [ColourJitter(jitter)] if jitter else []
        cut: list[Step] = [*_resize_to(resize), _RandomScaleCrop(size, scale, centre), *([mirror] if flip else [])]
        super().__init__(*cut, *colour, to_unit, PadTo(size, fill=UNIT_GREY))


class EvalResize(JointTransform):
    """The picture as it is, or resized to `size` (height, width): for evaluating segmentation."""

    def __init__(self, size: Size | None = None) -> None:
        require_sizes(size)
        super().__init__(*_resize_to(size), to_unit)


def _resize_to(size: Size | None) -> list[Step]:
    return [] if size is None else [Resize(partial(_exactly, target=size), "bilinear")]


def _exactly(height: int, width: int, *, target: Size) -> Size:
    return target


class _ClassPixel:
    """Chooses where to look: a random pixel of a class, drawn among those of a label map by weight.

    Args:
        probability: of choosing at all.
        weights: (C,) > 0.
    """

    def __init__(self, probability: float, weights: np.ndarray) -> None:
        self.probability, self.weights = probability, torch.as_tensor(weights, dtype=torch.float64)

    def __call__(self, label_map: torch.Tensor) -> tuple[int, int] | None:
        """Row and column in the label map (H, W). None: no choice was to be made, or no pixel has a class."""
        if torch.rand(()) >= self.probability:
            return None
        present = torch.bincount(label_map.flatten() - IGNORE_INDEX)[1:].nonzero().squeeze(1)  # one count per class, and one pass
        if len(present) == 0:
            return None
        chosen = present[torch.multinomial(self.weights[present], 1)]
        places = (label_map == chosen).flatten().nonzero().squeeze(1)
        return divmod(int(places[torch.randint(len(places), ())]), label_map.shape[1])


class _RandomScaleCrop:
    """Enlarge by a random factor and cut out `size`, in the cheaper order: cut out what will be seen, then resize that.

    The place is random, unless `centre` finds one; then that is in the middle, or as near to it as the picture allows.
    """

    def __init__(self, size: Size, scale: tuple[float, float], centre: _ClassPixel | None = None) -> None:
        self.size, self.scale, self.centre = size, scale, centre

    def __call__(self, parts: Parts) -> Parts:
        scale = float(torch.empty(()).uniform_(*self.scale))
        available = size_of(parts)
        height, width = (min(a, max(1, round(side / scale))) for a, side in zip(available, self.size))
        place = None if self.centre is None else self.centre(parts[1])
        if place is None:
            top, left = (random_offset(a, s) for a, s in zip(available, (height, width)))
        else:
            top, left = (min(max(p - s // 2, 0), a - s) for p, a, s in zip(place, available, (height, width)))
        # rounding the window must not leave a row or column to pad where the picture goes on
        size = [side if s < a else min(side, round(s * scale)) for a, s, side in zip(available, (height, width), self.size)]
        return resize(cut_out(parts, (top, left), (height, width)), (max(1, size[0]), max(1, size[1])), "bilinear")
