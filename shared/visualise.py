"""Label maps and images as pictures. A picture is an (H, W, 3) uint8 RGB array, the layout of Pillow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from shared.constants import IGNORE_INDEX
from shared.errors import InputError
from shared.files.atomic import atomic_write

UNIT, SIGNED = (0.0, 1.0), (-1.0, 1.0)
"""Value ranges of float images: of data sets and feature networks, and of generators."""


def voc_palette(num_classes: int) -> np.ndarray:
    """Colours of PASCAL VOC, (C, 3) uint8, for any C: all different up to 2**24.

    The bits 0, 3, 6, … of the id are, from the highest down, the bits of red; 1, 4, 7, … of green; 2, 5, 8, … of blue.
    """
    ids = np.arange(num_classes)[:, None]
    channel = np.arange(3)
    levels = [((ids >> (3 * level + channel)) & 1) << (7 - level) for level in range(8)]
    return np.sum(levels, axis=0).astype(np.uint8)


def colour_label_map(label_map: torch.Tensor | np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Colour every pixel by its class; ignored pixels are black.

    Args:
        label_map: (H, W) or (N, H, W) integer, ids in [0, C) or `IGNORE_INDEX`.
        palette: (C, 3) uint8.

    Returns:
        (H, W, 3) or (N, H, W, 3) uint8.

    Raises:
        InputError: an id the palette has no colour for.
    """
    ids = _ids(label_map)
    _require_ids(ids, len(palette))
    black = np.zeros((1, 3), np.uint8)
    return np.concatenate([palette, black])[ids]  # index −1 (ignored) is the last row


def overlay(picture: np.ndarray, label_map: torch.Tensor | np.ndarray, palette: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """Lay the class colours over a picture; ignored pixels keep the picture.

    Args:
        picture: (H, W, 3) uint8.
        label_map: (H, W).
        opacity: of the colours, from 0 to 1.
    """
    ids = _ids(label_map)
    if ids.shape != picture.shape[:2]:
        raise InputError(f"label map has shape {ids.shape}, picture {picture.shape[:2]}; they must be equal")
    share = np.where(ids == IGNORE_INDEX, 0.0, opacity)[..., None]
    return np.rint(share * colour_label_map(ids, palette) + (1 - share) * picture).astype(np.uint8)


def to_uint8(images: torch.Tensor, *, value_range: tuple[float, float]) -> np.ndarray:
    """Round float images to 8 bit; values outside the range are clipped.

    Args:
        images: (3, H, W) or (N, 3, H, W).
        value_range: black and white, `UNIT` or `SIGNED`.

    Returns:
        (H, W, 3) or (N, H, W, 3).

    Raises:
        InputError: a value is not finite, which no picture should hide.
    """
    if not images.isfinite().all():
        raise InputError("images hold values that are not finite; training has diverged or the weights are damaged")
    black, white = value_range
    scaled = (images.detach().float() - black) / (white - black) * 255
    return scaled.round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).cpu().numpy()


def picture_grid(pictures: Sequence[np.ndarray] | np.ndarray, *, columns: int, gap: int = 2, background: int = 255) -> np.ndarray:
    """Put pictures side by side, row by row, each at the top left of a cell that has room for the largest.

    Args:
        pictures: each (H, W, 3) uint8; sizes may differ.
        gap: pixels between the cells, of the grey value `background`, as is what a picture leaves free.
    """
    if len(pictures) == 0:
        raise InputError("a grid needs pictures; there are none")
    height, width = (max(picture.shape[side] for picture in pictures) for side in (0, 1))
    rows = -(-len(pictures) // columns)
    grid = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), background, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        grid[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return grid


def save_png(picture: np.ndarray, path: str | Path) -> None:
    """Write an (H, W, 3) or (H, W) uint8, or an (H, W) uint16 array."""
    with atomic_write(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def label_storage(num_classes: int) -> tuple[type[np.unsignedinteger], int]:
    """Type and ignored value of label files: uint8 and 255 when every id is below 255, else uint16 and 65535.

    It depends on the number of classes alone, so that all label maps of a data set are alike.
    """
    if num_classes > 65535:
        raise InputError(f"{num_classes} classes do not fit into 16-bit label files; at most 65535 do")
    return (np.uint8, 255) if num_classes <= 255 else (np.uint16, 65535)


def save_label_png(label_map: torch.Tensor | np.ndarray, path: str | Path, *, num_classes: int) -> None:
    """Write class ids as a grey PNG of 8 or 16 bit; see `label_storage`.

    Args:
        label_map: (H, W) integer, ids in [0, C) or `IGNORE_INDEX`.

    Raises:
        InputError: an id out of range, or too many classes.
    """
    storage, ignored = label_storage(num_classes)
    ids = _ids(label_map)
    _require_ids(ids, num_classes)
    save_png(np.where(ids == IGNORE_INDEX, ignored, ids).astype(storage), path)


def _ids(label_map: torch.Tensor | np.ndarray) -> np.ndarray:
    ids = label_map.cpu().numpy() if isinstance(label_map, torch.Tensor) else label_map
    if not np.issubdtype(ids.dtype, np.integer):
        raise InputError(f"label map has type {ids.dtype}; integer class ids were expected")
    return ids.astype(np.int64, copy=False)


def _require_ids(ids: np.ndarray, num_classes: int) -> None:
    wrong = ids[(ids < 0) & (ids != IGNORE_INDEX) | (ids >= num_classes)]
    if wrong.size:
        raise InputError(f"label map holds class id {wrong[0]}; ids from 0 to {num_classes - 1} or {IGNORE_INDEX} (ignored) were expected")


def read_png(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))
