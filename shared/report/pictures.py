"""The report's pictures: strips as PNG files, and single images that stand in the page itself."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from shared.report.model import Picture

LARGEST_SIDE, PIXELS_UP_TO = 1024, 160
"""Pixels: larger pictures are made smaller for the page; up to the second they are shown pixel by pixel."""


def png(image: np.ndarray) -> bytes:
    """(H, W, 3) uint8 → PNG file."""
    return _encoded(Image.fromarray(np.ascontiguousarray(image)), format="PNG", optimize=True)


def data_uri(image: np.ndarray, *, exact: bool = False) -> str:
    """(H, W, 3) uint8 → a picture that stands in the page itself, at most `LARGEST_SIDE` wide and high.

    Args:
        exact: keep every colour, as label maps need: PNG, of a palette where the colours are few. Otherwise WebP, if that makes it smaller.
    """
    picture = Image.fromarray(np.ascontiguousarray(image))
    if max(picture.size) > LARGEST_SIDE:
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.NEAREST if exact else Image.Resampling.LANCZOS)
    if exact:
        few = picture.getcolors(maxcolors=256)
        kept = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=len(few)) if few else picture
        # Pillow's palette of few colours need not hold exactly these
        if few and kept.convert("RGB").tobytes() != picture.tobytes():
            kept = picture
        return _uri("png", _encoded(kept, format="PNG", optimize=True))
    lossless = _encoded(picture, format="PNG", optimize=True)
    small = _encoded(picture, format="WEBP", quality=88, method=6)
    return _uri("webp", small) if max(picture.size) > PIXELS_UP_TO and len(small) < len(lossless) else _uri("png", lossless)


def strip(picture: Picture, arms: Sequence[str], gap: int = 4) -> np.ndarray:
    """Real image, label map and the arms' images side by side; grey where an arm has none."""
    blank = np.full_like(picture.real, 128)
    images = [picture.real, picture.label_map, *(picture.generated.get(arm, blank) for arm in arms)]
    between = np.full((picture.real.shape[0], gap, 3), 255, dtype=np.uint8)
    return np.concatenate([part for image in images for part in (between, image)][1:], axis=1)


def _encoded(picture: Image.Image, **how: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, **how)
    return buffer.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")
