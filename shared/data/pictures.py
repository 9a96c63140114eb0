"""Reading pictures: images as RGB bytes, label maps as the numbers in the file, never rescaled."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageFile

from shared.constants import IGNORE_INDEX
from shared.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
LABEL_SUFFIXES = (".png",)

_NUM_VALUES = 2**16


def read_image(path: Path) -> torch.Tensor:
    """Read a picture as (3, H, W) uint8 RGB. Greyscale is repeated, transparency dropped.

    The EXIF orientation is not applied: labels are drawn on the pixels as they are stored.

    Raises:
        InputError: unreadable or truncated file, or more than 8 bits per channel.
    """
    with _open(path) as picture:
        if picture.mode.startswith(("I", "F")):
            raise InputError(f"{path} has pixels of mode {picture.mode}; images need 8 bits per channel: convert it to 8-bit RGB")
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture as it is stored, from the first bytes of its file.

    Raises:
        InputError: as `read_image`, as far as these bytes tell.
    """
    with _open(path) as picture:
        return picture.height, picture.width


def read_numbers(path: Path) -> np.ndarray:
    """Read a one-channel PNG as (H, W) integers: uint8 for 8-bit and palette files (the index, not its colour), wider for 16-bit files.

    Raises:
        InputError: unreadable file, a colour picture, or fewer than 8 bits per pixel (which are rescaled when decoded).
    """
    with _open(path) as picture:
        if picture.mode == "1" or (picture.mode == "L" and picture.tile[0][3] != "L"):
            raise InputError(f"{path} is a greyscale PNG with fewer than 8 bits per pixel; save the label map with 8 or 16 bits")
        if picture.mode not in ("L", "P", "I;16", "I"):
            raise InputError(
                f"{path} is a colour picture (mode {picture.mode}); expected class ids in one channel of 8 or 16 bits: "
                "replace each colour by its class id, and save a one-channel PNG"
            )
        return np.array(picture)


class LabelReader(Protocol):
    """Reads a label file as (H, W) int64 class ids in [0, C) or `IGNORE_INDEX`; raises InputError for a file that is wrong."""

    def read(self, path: Path) -> torch.Tensor: ...


@dataclass(frozen=True)
class LabelCodes:
    """How the numbers in label files name classes: class id = value − offset.

    Attributes:
        num_classes: C.
        offset: value of class 0.
        ignore_value: value that becomes `IGNORE_INDEX`, or None where every pixel has a class.

    Raises:
        InputError: the ignore value is also the value of a class, or the values do not fit in 16 bits.
    """

    num_classes: int
    offset: int = 0
    ignore_value: int | None = 255

    def __post_init__(self) -> None:
        ignored = self.ignore_value
        if self.last_value >= _NUM_VALUES or (ignored is not None and not 0 <= ignored < _NUM_VALUES):
            raise InputError(f"label values {self.allowed} do not fit in 16 bits; values must lie in 0..{_NUM_VALUES - 1}")
        if ignored is not None and self.offset <= ignored <= self.last_value:
            raise InputError(
                f"value {ignored} is ignored and is also class {ignored - self.offset} of {self.num_classes}; "
                "set ignore_value to a value that no class has, or to null"
            )

    @property
    def last_value(self) -> int:
        return self.offset + self.num_classes - 1

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        ignored = "" if self.ignore_value is None else f" and {self.ignore_value} (ignored)"
        return f"{self.offset}..{self.last_value}{ignored}"

    def read(self, path: Path) -> torch.Tensor:
        """Read a label file as (H, W) int64 class ids in [0, C) or `IGNORE_INDEX`.

        Raises:
            InputError: see `read_numbers` and `decode`.
        """
        return self.decode(read_numbers(path), path)

    def decode(self, values: np.ndarray, path: Path) -> torch.Tensor:
        """(H, W) integers, the content of `path`, as class ids.

        Raises:
            InputError: a value that names no class; an 8-bit file where classes need 16 bits.
        """
        if values.dtype == np.uint8 and self.last_value > 255:
            raise InputError(
                f"{path} has 8 bits per pixel, which end at 255, but the {self.num_classes} classes use values {self.allowed}; "
                "make the label files again with 16 bits"
            )
        ignored = values == self.ignore_value if self.ignore_value is not None else np.zeros_like(values, dtype=bool)
        wrong = ((values < self.offset) | (values > self.last_value)) & ~ignored
        _refuse_values(
            values[wrong], path, self.allowed, "correct the file, or the number of classes, the label offset or the ignore value"
        )
        # everything above works on the bytes of the file; this is the only array of 8 bytes per pixel
        ids = torch.from_numpy(values.astype(np.int64))
        return ids.sub_(self.offset).masked_fill_(torch.from_numpy(ignored), IGNORE_INDEX)


@dataclass(frozen=True)
class LabelTable:
    """How the numbers in label files name classes where a table says it.

    Attributes:
        classes: class id, or `IGNORE_INDEX`, of the values 0, 1, 2, …; larger values are refused.
    """

    classes: tuple[int, ...]

    def read(self, path: Path) -> torch.Tensor:
        """Read a label file as (H, W) int64 class ids or `IGNORE_INDEX`.

        Raises:
            InputError: see `read_numbers`; a value beyond the table.
        """
        values = read_numbers(path)
        allowed = f"0..{len(self.classes) - 1}"
        _refuse_values(values[values >= len(self.classes)], path, allowed, "these are not the label files of this data set")
        return torch.from_numpy(np.array(self.classes, np.int64)[values])


def _refuse_values(wrong: np.ndarray, path: Path, allowed: str, advice: str) -> None:
    if wrong.size == 0:
        return
    found = np.unique(wrong)
    shown = ", ".join(map(str, found[:5])) + (", …" if len(found) > 5 else "")
    raise InputError(f"{path} holds value{'s' if len(found) > 1 else ''} {shown}; allowed are {allowed}; {advice}")


@contextmanager
def _open(path: Path) -> Iterator[ImageFile.ImageFile]:
    try:
        with Image.open(path) as picture:
            yield picture
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).replace(f" {str(path)!r}", "").split())
        raise InputError(f"cannot read the picture {path}: {reason}; repair or replace the file") from error
