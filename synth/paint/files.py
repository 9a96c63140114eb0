"""Files that are dropped on the page: label maps that a painting starts from, and pictures."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

from shared.constants import IGNORE_INDEX
from shared.data.labels import LabelCodes
from shared.data.transforms import SIZED_MODES
from shared.errors import InputError
from shared.visualise import label_storage
from synth.images.layout_files import input_config, label_rules, prepare_layout
from synth.inputs import layout_transform
from synth.paint.painter import Painter
from synth.paint.painting import IGNORED, Painting, read_object, read_painting
from synth.paint.takeaway import TEXT_KEY
from synth.trained import TrainedGenerator

PICTURE_PIXELS = 2**26
"""Pixels of the largest picture that is read."""


@contextmanager
def brought(name: str, content: bytes, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """A file of this content while the block lasts, called what it was called as far as that is a plain name.

    Raises:
        InputError: another ending; what the block raises, with the plain name in place of the path.
    """
    plain = re.sub(r"[^\w.() -]+", "_", Path(name.replace("\\", "/")).name).lstrip("._ ")[-100:] or "file"
    if Path(plain).suffix.lower() not in suffixes:
        raise InputError(f"{plain} is no {'/'.join(suffixes)} file; drop one of these")
    with TemporaryDirectory(prefix="paint-") as folder:
        path = Path(folder, plain)
        path.write_bytes(content)
        try:
            yield path
        except InputError as error:
            raise InputError(str(error).replace(str(path), plain)) from error


def read_labels(painter: Painter, name: str, content: bytes, max_pixels: int) -> Painting:
    """The painting of a label file: of one taken home from here all of it, of another its label map, by the rule of the data set.

    Raises:
        InputError: as reading a label file does.
    """
    rules = label_rules(painter.trained.meta)
    suffixes = tuple(dict.fromkeys(suffix for rule in rules.rules for suffix in rule.suffixes))
    with brought(name, content, suffixes) as path:
        about = _text_of(path)
        if about is not None:
            return _taken_home(painter, path, about, max_pixels)
        ((file, reader),) = rules.find([str(path)]).values()
        labels = reader.read(file, max_pixels=PICTURE_PIXELS)
    return Painting(brought_to_size(painter.trained, labels, max_pixels, keep=True))


def _text_of(path: Path) -> dict[str, Any] | None:
    try:
        with Image.open(path) as picture:
            text = picture.info.get(TEXT_KEY)
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError):
        return None  # reading the numbers tells what is wrong
    return read_object(text) if isinstance(text, str) else None


def _taken_home(painter: Painter, path: Path, about: dict[str, Any], max_pixels: int) -> Painting:
    mixes = about.get("mixes")
    num_classes = painter.spec.num_classes + (len(mixes) if isinstance(mixes, list) else 0)
    labels = LabelCodes(num_classes, ignore_value=label_storage(num_classes)[1]).read(path, max_pixels=max_pixels).numpy()
    painting = read_painting(about, wire_ids(labels), num_classes=painter.spec.num_classes, max_pixels=max_pixels)
    ends = painting.style.start, painting.style.end
    if any(isinstance(key, str) and key not in painter.styles for key in ends):  # an image that was brought to another server
        painting = replace(painting, style=Painting(labels).style)
    return painting


def wire_ids(labels: np.ndarray) -> bytes:
    """(H, W) int64 as they go over the wire."""
    return np.where(labels == IGNORE_INDEX, IGNORED, labels).astype("<u2").tobytes()


def brought_to_size(trained: TrainedGenerator, labels: torch.Tensor, max_pixels: int, *, keep: bool) -> np.ndarray:
    """(H, W) int64, resized to what the generator can make.

    keep: the size they have, or the nearest; else about as many pixels as the generator was trained on, in their proportions.
    """
    generator, config = trained.generator, input_config(trained)
    height, width = labels.shape
    if generator.z_dim is not None:
        size = generator.image_size
    else:
        scale = 1.0 if keep and height * width <= max_pixels else math.sqrt(math.prod(generator.image_size) / (height * width))
        size = nearest_size((height * scale, width * scale), generator.size_multiple, max_pixels)
    mode = config.mode if generator.z_dim is not None and config.mode in SIZED_MODES else "fixed"
    transform = layout_transform(replace(config, mode=mode, size=size), multiple=generator.size_multiple)
    return prepare_layout(labels, None, transform).label_map.numpy()


def nearest_size(size: tuple[float, float], multiple: int, max_pixels: int) -> tuple[int, int]:
    """(height, width) in multiples, of at most so many pixels."""
    height, width = (max(1, round(side / multiple)) * multiple for side in size)
    while height * width > max_pixels and max(height, width) > multiple:
        height, width = (height - multiple, width) if height >= width else (height, width - multiple)
    return height, width
