"""Reading pictures as a viewer shows them: images as RGB bytes, label maps as the numbers in the file, never rescaled.

A camera that was held upright or upside down stores its pixels as they came and says in EXIF how they are to be turned. H, W: height and
width of a picture.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageFile

from shared.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
LABEL_SUFFIXES = (".png",)

MAX_PIXELS = 178_956_970
"""Pixels of the largest picture that is read unless a setting allows more: a file of a few bytes may unfold to any size."""

BAND_PIXELS = 2**24
"""Pixels of a picture, or of a band of it, that are converted at once."""

Orientation = Literal["shown", "stored"]
"""Of an image whose EXIF data turn it: as a viewer shows it, or as its pixels are stored."""

ORIENTATION_TAG = 0x0112
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
"""From the stored pixels (H, W, …) to those that are shown, by the number in EXIF; 1 leaves them as they are."""
_SIDEWAYS = (5, 6, 7, 8)
TURN_WORDS = {2: "mirrored", 3: "turned by 180°", 4: "mirrored upside down", 6: "turned by 90°", 8: "turned by 270°"} | {
    5: "mirrored and turned by 270°",
    7: "mirrored and turned by 90°",
}
"""What a viewer does, clockwise."""


@dataclass(frozen=True)
class Header:
    """What a picture's file says of itself before its pixels.

    Attributes:
        size: (height, width) as it is shown.
        stored_size: (height, width) of the pixels in the file.
        orientation: number in EXIF, 1 where nothing is turned.
        format: such as "PNG" or "JPEG", and "lossy WEBP", by content.
    """

    size: tuple[int, int]
    stored_size: tuple[int, int]
    orientation: int
    format: str


@dataclass(frozen=True)
class StoredImage:
    """An image as its file has it.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, as they are stored.
        turn: number in EXIF, 1 where nothing is turned.
    """

    pixels: np.ndarray
    turn: int

    def shown(self, map_size: tuple[int, ...] | None = None, orientation: Orientation | None = None) -> torch.Tensor:
        """(3, H, W) uint8 RGB, turned as EXIF says.

        Args:
            map_size: (height, width) of a map of its pixels. Where only the stored pixels fit it, they stay as they are.
            orientation: shown or stored, whatever the map's size. (Pillow turns TIFF files by itself.)
        """
        turned = self.is_turned(map_size, orientation)
        return torch.from_numpy(np.ascontiguousarray(_TURNS[self.turn](self.pixels)) if turned else self.pixels).permute(2, 0, 1)

    def is_turned(self, map_size: tuple[int, ...] | None = None, orientation: Orientation | None = None) -> bool:
        """Whether `shown` turns the pixels."""
        if self.turn == 1 or orientation == "stored":
            return False
        stored = self.pixels.shape[:2]
        only_stored_fits = map_size is not None and tuple(map_size) == stored and tuple(map_size) != shown_size(stored, self.turn)
        return orientation == "shown" or not only_stored_fits

    @property
    def keeps_its_size(self) -> bool:
        """Whether the turn leaves height and width as they are, so that no map can tell whether it is meant."""
        return shown_size(self.pixels.shape[:2], self.turn) == self.pixels.shape[:2]


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """Read a picture as (3, H, W) uint8 RGB, turned as its EXIF data say. Greyscale is repeated, transparency dropped.

    Raises:
        InputError: see `read_stored_image`.
    """
    return read_stored_image(path, max_pixels=max_pixels).shown()


def read_stored_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> StoredImage:
    """Read a picture as RGB, and how it is to be turned.

    Raises:
        InputError: unreadable or truncated file, more than 8 bits per channel, or more than `max_pixels`.
    """
    with _open(path, max_pixels) as picture:
        return stored_image(picture, str(path))


def stored_image(picture: Image.Image, name: str) -> StoredImage:
    """An open picture as RGB, and how it is to be turned; `name` is what messages call it.

    Raises:
        InputError: more than 8 bits per channel.
    """
    if picture.mode.startswith(("I", "F")):
        raise InputError(f"{name} has pixels of mode {picture.mode}; images need 8 bits per channel: convert it to 8-bit RGB")
    return StoredImage(_rgb(picture), _orientation(picture.getexif))


def _rgb(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8; of a large picture band by band, since Pillow would copy all of it three times."""
    width, height = picture.size
    if width * height < BAND_PIXELS:
        return np.array(picture.convert("RGB"))
    picture.load()
    width, height = picture.size  # that of a TIFF may have been turned
    pixels, rows = np.empty((height, width, 3), np.uint8), max(BAND_PIXELS // width, 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)).convert("RGB"))
    return pixels


def shown_size(stored_size: tuple[int, ...], turn: int) -> tuple[int, int]:
    """(height, width) behind a turn."""
    height, width = stored_size
    return (width, height) if turn in _SIDEWAYS else (height, width)


def read_numbers(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a one-channel PNG as (H, W) integers: uint8 for 8-bit and palette files (the index, not its colour), wider for 16-bit files.

    Raises:
        InputError: unreadable file, a colour picture, fewer than 8 bits per pixel (which are rescaled when decoded), or too many pixels.
    """
    with _open(path, max_pixels) as picture:
        if picture.mode == "1" or (picture.mode == "L" and picture.tile[0][3] != "L"):
            raise InputError(f"{path} is a greyscale PNG with fewer than 8 bits per pixel; save the label map with 8 or 16 bits")
        if picture.mode not in ("L", "P", "I;16", "I"):
            raise InputError(
                f"{path} is a colour picture (mode {picture.mode}); expected class ids in one channel of 8 or 16 bits: "
                "replace each colour by its class id, and save a one-channel PNG"
            )
        numbers = np.array(picture)
        turn = _orientation(picture.getexif)
    return numbers if turn == 1 else np.ascontiguousarray(_TURNS[turn](numbers))


def read_header(path: Path) -> Header:
    """What a picture is, without decoding its pixels, however many they are.

    Raises:
        InputError: not a picture.
    """
    with _open(path, None) as picture:
        # a PNG is decoded to its end by its own getexif, for a block behind the pixels that hardly any program writes
        turn = _orientation(lambda: Image.Image.getexif(picture))
        width, height = picture.size  # Pillow gives that of a TIFF as it is shown
        turn = 1 if picture.format == "TIFF" else turn
        lossy = "lossy " if picture.format == "WEBP" and _is_lossy_webp(path) else ""
        return Header(shown_size((height, width), turn), (height, width), turn, f"{lossy}{picture.format}")


def _is_lossy_webp(path: Path) -> bool:
    """Whether the first block of pixels is one of VP8 rather than of VP8L."""
    with open(path, "rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            if head[:4] in (b"VP8 ", b"VP8L"):
                return head[:4] == b"VP8 "
            length = int.from_bytes(head[4:], "little")
            file.seek(length + length % 2, os.SEEK_CUR)
    return False


def _orientation(read: Callable[[], Image.Exif]) -> int:
    try:
        value = read().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF data fail in any way, and say nothing about the pixels
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


@contextmanager
def _open(path: Path, max_pixels: int | None) -> Iterator[ImageFile.ImageFile]:
    # Pillow has one limit for the whole process, which warns at half of it; ours is an argument
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if max_pixels is not None and width * height > max_pixels:
                raise InputError(
                    f"cannot read the picture {path}: it has {height}x{width} (height x width) = {height * width} pixels, and at most "
                    f"{max_pixels} are read; allow more with --max_pixels (of a data set: --data.max_pixels), or make it smaller"
                )
            yield picture
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).replace(f" {str(path)!r}", "").split())
        raise InputError(f"cannot read the picture {path}: {reason or type(error).__name__}; repair or replace the file") from error
