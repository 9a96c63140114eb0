"""What a painting may start from: layouts of the validation split, label files, and photos that a segmentation run labels."""

import asyncio
import io
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_type_hints

import numpy as np
import torch
from PIL import Image

from shared.constants import IGNORE_INDEX
from shared.data import build_dataset
from shared.data.config import DataConfig
from shared.data.labels import LabelCodes
from shared.data.pairs import PairDataset
from shared.data.pictures import IMAGE_SUFFIXES
from shared.data.spec import SegmentationDataset
from shared.data.transforms import SIZED_MODES
from shared.errors import InputError
from shared.run.checkpoint import read_checkpoint
from shared.run.directory import RunDirectory
from shared.visualise import colour_label_map, label_storage
from synth.images.layout_files import input_config, label_rules, prepare_layout
from synth.inputs import layout_transform
from synth.paint.painter import Painter
from synth.paint.painting import IGNORED, Painting, read_object, read_painting
from synth.paint.takeaway import TEXT_KEY
from synth.trained import TrainedGenerator

PHOTO_SECONDS = 180
PHOTO_PIXELS = 2**26
THUMBNAIL = 160


# --- Layouts of the data set ------------------------------------------------------------------------------------------------


class Layouts:
    """Label maps of the validation split, as they come to size in the evaluation of the training."""

    def __init__(self, painter: Painter, dataset: SegmentationDataset) -> None:
        self.painter, self.dataset = painter, dataset
        self._transform = layout_transform(input_config(painter.trained), multiple=painter.generator.size_multiple)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> np.ndarray:
        """(H, W) int64.

        Raises:
            InputError: there is no such layout, or its file is damaged.
        """
        if not 0 <= index < len(self.dataset):
            raise InputError(f"there is no layout {index}; there are {len(self.dataset)}")
        stored = self.dataset
        labels = stored.read_labels(index) if isinstance(stored, PairDataset) else stored[index].label_map
        return prepare_layout(labels, None, self._transform).label_map.numpy()

    def thumbnail(self, index: int) -> bytes:
        """PNG in the colours of the classes."""
        labels = self[index]
        step = max(1, max(labels.shape) // THUMBNAIL)
        buffer = io.BytesIO()
        Image.fromarray(colour_label_map(labels[::step, ::step], self.painter.spec.palette)).save(buffer, format="PNG")
        return buffer.getvalue()


def open_layouts(painter: Painter, root: str | None) -> tuple[Layouts | None, str]:
    """The layouts, or None and why there are none."""
    stored = painter.trained.meta["config"].get("data")
    if stored is None:
        return None, "this generator was converted from published weights, which name no data set"
    try:
        dataset = build_dataset(_data_config(stored | ({} if root is None else {"root": root})), "val")
    except InputError as error:
        return None, f"{error} (another place: --data_root)"
    known = painter.spec.class_names[: dataset.spec.num_classes]
    if dataset.spec.class_names != known:
        return None, f"the classes of {dataset.spec.name} are not those that the generator was trained on"
    return Layouts(painter, dataset), ""


def _data_config(stored: dict[str, Any], kind: type = DataConfig) -> Any:
    """Settings from plain values; such as are not known any more are left out."""
    hints = get_type_hints(kind)
    given = {field.name: stored[field.name] for field in fields(kind) if field.name in stored}
    return kind(**{name: _data_config(value, hints[name]) if is_dataclass(hints[name]) else value for name, value in given.items()})


# --- Files that are dropped on the page --------------------------------------------------------------------------------------


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
        labels = reader.read(file, max_pixels=PHOTO_PIXELS)
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


# --- Photos -----------------------------------------------------------------------------------------------------------------


class Photos:
    """Label maps of photos, by `python -m seg.predict` as a process of its own: neither half imports the other.

    Raises InputError: no such run, or no class that the generator has.
    """

    def __init__(self, painter: Painter, run: str, device: str) -> None:
        self.painter, self.run, self.device = painter, run, device
        directory = RunDirectory.open(run)
        path = next((path for path in map(directory.checkpoint, ("best", "last")) if path.is_file()), directory.checkpoint("last"))
        names = read_checkpoint(path)[1]["class_names"]
        ids = {name: class_id for class_id, name in enumerate(painter.spec.class_names)}
        self.which = "best" if path.stem == "best" else "last"
        self.ids = np.array([ids.get(name, IGNORE_INDEX) for name in names])
        if (self.ids == IGNORE_INDEX).all():
            raise InputError(f"segmenter {run} knows none of the classes of {painter.run}; give a run on the same classes")
        self._one_at_a_time = asyncio.Lock()

    async def labels_of(self, name: str, content: bytes, max_pixels: int) -> np.ndarray:
        """(H, W) int64, −1 where the segmenter sees a class that the generator does not have.

        Raises:
            InputError: no image, or the segmenter cannot do it, or not in time.
        """
        with brought(name, content, IMAGE_SUFFIXES) as path:
            output = path.parent / "predicted"
            async with self._one_at_a_time:
                await self._predict(path, output)
            file = output / "labels" / f"{path.stem}.png"
            found = LabelCodes(len(self.ids), ignore_value=None).read(file, max_pixels=PHOTO_PIXELS)
            return brought_to_size(self.painter.trained, torch.from_numpy(self.ids)[found], max_pixels, keep=False)

    async def _predict(self, path: Path, output: Path) -> None:
        options = ["--checkpoint", self.which, "--device", self.device, "--max_pixels", str(PHOTO_PIXELS)]
        command = ["seg.predict", self.run, str(path), "-o", str(output), *options]
        # in a session of its own, so that Ctrl-C at the terminal does not reach it but through us
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _, errors = await asyncio.wait_for(child.communicate(), PHOTO_SECONDS)
        except TimeoutError:
            raise InputError(f"segmenter {self.run} has not done {path} in {PHOTO_SECONDS} s; take a smaller photo") from None
        finally:
            if child.returncode is None:
                child.kill()
        if child.returncode:
            said = errors.decode(errors="replace").strip().splitlines()
            raise InputError(f"segmenter {self.run}: {said[-1].removeprefix('error: ') if said else f'status {child.returncode}'}")
