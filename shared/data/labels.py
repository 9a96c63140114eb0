"""What the numbers in label files mean: class ids, ignored pixels, or a mistake."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from shared.constants import IGNORE_INDEX
from shared.data.pictures import MAX_PIXELS, read_numbers
from shared.errors import InputError

_NUM_VALUES = 2**16
_REFUSED = -2


class LabelReader(Protocol):
    """Reads a label file as (H, W) int64 class ids in [0, C) or `IGNORE_INDEX`; raises InputError for a file that is wrong."""

    def read(self, path: Path, *, max_pixels: int = MAX_PIXELS) -> torch.Tensor: ...

    def to_plain(self) -> dict[str, Any]:
        """The rule as JSON values, which travel with a checkpoint; `shared.data.stored_rules` reads them."""
        ...


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

    def to_plain(self) -> dict[str, Any]:
        return {"offset": self.offset, "ignore_value": self.ignore_value}

    def read(self, path: Path, *, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
        """Read a label file as (H, W) int64 class ids in [0, C) or `IGNORE_INDEX`.

        Raises:
            InputError: see `read_numbers` and `decode`.
        """
        return self.decode(read_numbers(path, max_pixels=max_pixels), path)

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
        classes: class id, `IGNORE_INDEX`, or None (refused) of the values 0, 1, 2, …; larger values are refused.
    """

    classes: tuple[int | None, ...]

    @classmethod
    def of_values(cls, values: list[int], ignore_value: int | None) -> "LabelTable":
        """The table of label files in which class i has the value `values[i]`.

        Raises:
            InputError: a value that two classes have, or that is ignored too, or that does not fit in 16 bits.
        """
        classes: dict[int, int] = {} if ignore_value is None else {ignore_value: IGNORE_INDEX}
        for class_id, value in enumerate(values):
            if value in classes:
                other = "ignored" if classes[value] == IGNORE_INDEX else f"that of class {classes[value]}"
                raise InputError(f"label value {value} is that of class {class_id} and {other} too; give every class a value of its own")
            classes[value] = class_id
        if min(classes) < 0 or max(classes) >= _NUM_VALUES:
            raise InputError(f"label values {sorted(classes)} do not fit in 16 bits; values must lie in 0..{_NUM_VALUES - 1}")
        return cls(tuple(classes.get(value) for value in range(max(classes) + 1)))

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        known = [value for value, class_id in enumerate(self.classes) if class_id is not None]
        if len(known) == len(self.classes):
            return f"0..{len(known) - 1}"
        return ", ".join(map(str, known[:10])) + (", …" if len(known) > 10 else "")

    def to_plain(self) -> dict[str, Any]:
        return {"classes": list(self.classes)}

    def read(self, path: Path, *, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
        """Read a label file as (H, W) int64 class ids or `IGNORE_INDEX`.

        Raises:
            InputError: see `read_numbers`; a value beyond the table, or one that it refuses.
        """
        values = read_numbers(path, max_pixels=max_pixels)
        table = np.full(max(len(self.classes), int(values.max()) + 1), _REFUSED, np.int64)
        table[: len(self.classes)] = [_REFUSED if class_id is None else class_id for class_id in self.classes]
        ids = table[values]
        _refuse_values(values[ids == _REFUSED], path, self.allowed, "these are not the label files of this data set, or its settings")
        return torch.from_numpy(ids)


def _refuse_values(wrong: np.ndarray, path: Path, allowed: str, advice: str) -> None:
    if wrong.size == 0:
        return
    found = np.unique(wrong)
    shown = ", ".join(map(str, found[:5])) + (", …" if len(found) > 5 else "")
    raise InputError(f"{path} holds value{'s' if len(found) > 1 else ''} {shown}; allowed are {allowed}; {advice}")
