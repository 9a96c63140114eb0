"""Class lists too long for code: a line per class, in the order of the class ids; the name, or name, tab and colour or label value."""

from importlib.resources import files
from typing import Literal

import numpy as np

ClassList = Literal["ade20k", "ade20k_full", "coco_stuff", "lvis"]


def class_names(name: ClassList) -> tuple[str, ...]:
    """The names of a list."""
    return tuple(line.split("\t")[0] for line in _lines(name))


def class_colours(name: ClassList) -> np.ndarray:
    """The colours of a list that has them, (C, 3) uint8."""
    return np.array([line.split("\t")[1].split() for line in _lines(name)]).astype(np.uint8)


def class_values(name: ClassList) -> np.ndarray:
    """The label values of a list that has them, (C,) int64."""
    return np.array([line.split("\t")[1] for line in _lines(name)]).astype(np.int64)


def _lines(name: ClassList) -> list[str]:
    return (files(__name__) / f"{name}.txt").read_text(encoding="utf-8").splitlines()
