"""Images and label maps as programs of others hold them, brought to what is read from files. H, W: height and width in pixels."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from shared.constants import IGNORE_INDEX
from shared.data.pictures import MAX_PIXELS, read_image, stored_image
from shared.errors import InputError

GivenImage = str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor
"""A file; a Pillow image; (H, W, 3) or (H, W) uint8; (3, H, W) uint8, or floating point in [0, 1]."""


def is_one(given: Any, dims: int = 3) -> bool:
    """Whether this is one image (or, with 2 dims, one label map), or else several: a list or another iterable, or an array of more dims."""
    if isinstance(given, (np.ndarray, torch.Tensor)):
        return given.ndim <= dims
    return isinstance(given, (str, os.PathLike, Image.Image)) or not isinstance(given, Iterable)


def image_from(image: GivenImage, *, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """(3, H, W) uint8 RGB, as `shared.data.pictures.read_image` gives it. Floating-point tensors are rounded to 8 bits, as files are.

    Raises:
        InputError: a file that cannot be read, or another shape, type or range than `GivenImage` says.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(Path(image), max_pixels=max_pixels)
    if isinstance(image, Image.Image):
        return stored_image(image, "the image").shown()
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, torch.Tensor):
        return _from_tensor(image)
    raise InputError(f"an image of type {type(image).__name__} came; expected a path, a Pillow image, an array or a tensor")


def _from_array(image: np.ndarray) -> torch.Tensor:
    grey = image.ndim == 2
    if image.dtype != np.uint8 or not (grey or (image.ndim == 3 and image.shape[2] == 3)) or not image.size:
        raise InputError(f"an array {image.shape} of {image.dtype} came; an image is (H, W, 3) or (H, W) uint8")
    pixels = np.repeat(image[..., None], 3, axis=2) if grey else image
    # a copy only where the array is read-only or not in order
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(2, 0, 1)


def _from_tensor(image: torch.Tensor) -> torch.Tensor:
    image = image.detach().cpu()
    if image.ndim != 3 or len(image) != 3 or not image.numel() or not (image.dtype == torch.uint8 or image.is_floating_point()):
        raise InputError(f"a tensor {tuple(image.shape)} of {image.dtype} came; an image is (3, H, W), uint8 or floating point in [0, 1]")
    if image.dtype == torch.uint8:
        return image
    lowest, highest = (value.item() for value in image.aminmax())
    # written so that nan is refused too
    if not (lowest >= 0 and highest <= 1):
        raise InputError(f"a tensor with values from {lowest:.4g} to {highest:.4g} came; those of a floating-point image lie in [0, 1]")
    return (image.float() * 255).round().to(torch.uint8)


def label_map_from(label_map: np.ndarray | torch.Tensor, num_classes: int) -> torch.Tensor:
    """(H, W) int64 class ids, of (H, W) integers in [0, C) or `IGNORE_INDEX`.

    Raises:
        InputError: another shape or type, or a number that is no class.
    """
    numbers = label_map.detach().cpu().numpy() if isinstance(label_map, torch.Tensor) else np.asarray(label_map)
    if numbers.ndim != 2 or not numbers.size or not np.issubdtype(numbers.dtype, np.integer):
        raise InputError(f"a label map {numbers.shape} of {numbers.dtype} came; expected (H, W) integers")
    ids = numbers.astype(np.int64)
    wrong = ids[((ids < 0) & (ids != IGNORE_INDEX)) | (ids >= num_classes)]
    if wrong.size:
        raise InputError(f"the label map holds {wrong[0]}; expected class ids from 0 to {num_classes - 1}, or {IGNORE_INDEX} (ignored)")
    return torch.from_numpy(ids)
