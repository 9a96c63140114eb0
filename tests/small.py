"""The smallest settings that still run every line of a program, and what tests of whole programs share."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SEGMENTER: list[object] = ["--model.width", 16]
"""The encoder is tiny already, where the data are scenes."""

GENERATOR: list[object] = ["--generator.width", 2, "--generator.hidden", 4, "--discriminator.width", 4]

WITHOUT_PERCEPTUAL: list[object] = ["--loss.vgg_weight", 0]
"""Else the features of a larger network would be computed."""


def scenes(*, classes: int, train: int, val: int, size: tuple[int, int] = (32, 64), workers: int = 0) -> list[object]:
    """Options of the built-in data: so many classes and images, (height, width) in pixels."""
    given = {"num_classes": classes, "height": size[0], "width": size[1], "train_length": train, "val_length": val}
    return ["--data.num_workers", workers, *(part for key, value in given.items() for part in (f"--data.scenes.{key}", value))]


def synthesis(size: tuple[int, int] = (32, 64)) -> list[object]:
    """Options of a generator for images of (height, width) pixels and its discriminator."""
    return ["--input.size", f"[{size[0]}, {size[1]}]", *GENERATOR, *WITHOUT_PERCEPTUAL]


def save_image(path: Path, size: tuple[int, int] = (24, 32)) -> None:
    """A grey picture, (height, width) pixels large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def save_labels(path: Path, value: int = 1, size: tuple[int, int] = (24, 32)) -> None:
    """A label map of one class, (height, width) pixels large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)


def require_one_line(outcome: Any, *parts: str) -> None:
    """The program was refused, in one line that holds the parts."""
    line = refusal(outcome)
    assert all(part in line for part in parts), line


def refusal(outcome: Any) -> str:
    """The one line `error: …` of a program that was refused, after any progress bars."""
    lines = [line for line in outcome.errors.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert outcome.status == 1, outcome
    assert len(lines) == 1, outcome.errors
    assert "Traceback" not in outcome.errors
    return str(lines[0])
