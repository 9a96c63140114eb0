"""Ways to spoil an image, each in growing strengths: what a distance between sets of images has to see.

A picture is an (H, W, 3) uint8 RGB array; a label map is (H, W) integer, −1 = ignored.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from shared.constants import IGNORE_INDEX

TILES = 4
"""Tiles on each side of an image whose layout is made wrong."""

Distortion = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]
"""(picture, label map, strength, draws) → picture of the same shape."""


def blur(picture: np.ndarray, label_map: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """strength: deviation of a Gaussian in pixels."""
    return np.array(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(strength)))


def noise(picture: np.ndarray, label_map: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """strength: deviation of Gaussian noise on every number, in grey values of 255."""
    return (picture + random.normal(0, strength, picture.shape)).round().clip(0, 255).astype(np.uint8)


def jpeg(picture: np.ndarray, label_map: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """strength: 100 − Pillow's quality."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=round(100 - strength))
    return np.array(Image.open(file))


def wrong_layout(picture: np.ndarray, label_map: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """strength: share of 4 × 4 tiles that change places with each other. What the last rows and columns have over stays."""
    height, width = (side // TILES for side in picture.shape[:2])
    places = random.permutation(TILES * TILES)[: round(strength * TILES * TILES)]
    result = picture.copy()
    for place, source in zip(places, np.roll(places, 1)):  # a cycle: every chosen tile moves
        (row, column), (from_row, from_column) = divmod(place, TILES), divmod(source, TILES)
        result[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture[
            from_row * height : (from_row + 1) * height, from_column * width : (from_column + 1) * width
        ]
    return result


def swapped_classes(picture: np.ndarray, label_map: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """strength: the probability that the image's classes change looks with each other: the largest with the second, the third with the
    fourth, and so on. The rows of a region are filled with runs of pixels of the other one, so texture stays along the rows.
    """
    if random.random() >= strength:
        return picture
    ids, pixels = np.unique(label_map[label_map != IGNORE_INDEX], return_counts=True)
    ranked = ids[np.argsort(-pixels, kind="stable")]
    result = picture.copy()
    for first, second in zip(ranked[::2], ranked[1::2]):
        regions = label_map == first, label_map == second
        for region, other in (regions, regions[::-1]):
            result[region] = _runs(picture[other], region.sum(1))
    return result


def _runs(pixels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """A run of `pixels` (M, 3) for every row, of `lengths` pixels, from a place that moves evenly from the first to the last one."""
    starts = np.repeat(np.linspace(0, len(pixels), len(lengths), endpoint=False).astype(np.int64), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return pixels[(starts + within) % len(pixels)]


DISTORTIONS: dict[str, tuple[Distortion, str, tuple[float, ...]]] = {
    "blur": (blur, "deviation, pixels", (0.5, 1, 2, 4)),
    "noise": (noise, "deviation of 255", (5, 10, 20, 40)),
    "JPEG": (jpeg, "100 − quality", (50, 80, 90, 95)),
    "wrong layout": (wrong_layout, "share of tiles that move", (0.25, 0.5, 1)),
    "swapped classes": (swapped_classes, "share of images", (0.25, 0.5, 1)),
}
"""Name → function, what its strength is, and the strengths that are measured, the weakest first."""
