"""The smallest settings that still run every line of a program, and what tests of whole programs share."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SEGMENTER: list[object] = ["--model.width", 16]
"""The encoder is tiny already, where the data are scenes."""

GENERATOR: list[object] = ["--generator.width", 2, "--generator.hidden", 4, "--discriminator.width", 4]

WITHOUT_PERCEPTUAL: list[object] = ["--loss.vgg_weight", 0]
"""Else VGG-19's features would be asked for."""


def scenes(*, classes: int, train: int, val: int, size: tuple[int, int] = (32, 64), workers: int = 0) -> list[object]:
    """Options of the built-in data: so many classes and images, (height, width) in pixels."""
    given = {"num_classes": classes, "height": size[0], "width": size[1], "train_length": train, "val_length": val}
    return ["--data.num_workers", workers, *(part for key, value in given.items() for part in (f"--data.scenes.{key}", value))]


def synthesis(size: tuple[int, int] = (32, 64)) -> list[object]:
    """Options of a generator for images of (height, width) pixels and its discriminator."""
    return ["--input.size", f"[{size[0]}, {size[1]}]", *GENERATOR, *WITHOUT_PERCEPTUAL]


def save_image(path: Path, size: tuple[int, int] = (24, 32)) -> None:
    """A picture of noise, (height, width) pixels large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def require_one_line(outcome: Any, *parts: str) -> None:
    """The program was refused: status 1, and one line on standard error that holds the parts."""
    lines = [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    assert outcome.status == 1, outcome.output + outcome.errors
    assert len(lines) == 1, outcome.errors
    assert "Traceback" not in outcome.errors
    for part in parts:
        assert part in lines[0], lines[0]
