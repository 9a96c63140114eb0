"""Label images with a trained network: `python -m seg.predict RUN IMAGES… -o DIR`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from seg.inference import ViewConfig, predict_views, predict_with_confidence
from seg.rejection import Rejection
from seg.trained import TrainedSegmenter, load_segmenter, with_table
from shared.constants import IGNORE_INDEX
from shared.data.picture_files import expand_paths
from shared.data.pictures import IMAGE_SUFFIXES, MAX_PIXELS, read_image
from shared.data.spec import DatasetSpec, Sample
from shared.data.transforms import EvalResize
from shared.data.workers import in_threads
from shared.errors import InputError
from shared.run.directory import RunDirectory
from shared.run.program import run_program
from shared.run.training import choose_device, progress
from shared.visualise import colour_label_map, label_storage, overlay, save_png

SMALLEST_TILE = 64

THREADS, AHEAD = 4, 8
"""That read and write pictures beside the network, and pictures that wait on either side of it."""


@dataclass
class PredictConfig:
    """Label images: for each, an 8- or 16-bit PNG of class ids, the same in colour, and an overlay."""

    run: str
    """Run directory of seg.train."""
    images: list[str]
    """Image files, or folders of them."""
    output: str
    """Folder for labels/, colour/ and overlay/. Without reject, ignored pixels do not occur; ids are those of the class list."""
    table: str | None = None
    """File with a vector per class (.safetensors, .npz, .npy, .csv): label with these classes, which need not occur in the training. Ids
    are then those of its rows. Null: the classes of the run."""
    reject: bool = False
    """Mark pixels that are of none of the classes as ignored (255, or 65535 in 16 bit; black in colour): those whose confidence is below
    the threshold that python -m seg.calibrate has chosen for the run."""
    confidence: bool = False
    """Also write confidence/: 8-bit PNGs, 255 where a pixel embedding is its class embedding, 0 where it lies at a right angle to it or
    farther; with head softmax the probability of the class."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    views: ViewConfig = field(default_factory=ViewConfig)
    """Sliding windows, scales and mirroring."""
    tile: tuple[int, int] | None = None
    """(height, width) in pixels of the parts in which an image is predicted, one after the other, each with a quarter of that around it:
    the memory of a large image is then that of its pixels, 3 bytes each, and of the pictures written. Null: at once."""
    max_pixels: int = MAX_PIXELS
    """Pixels of the largest image that is read; a larger one is refused, as a small file may unfold to any size."""
    dry_run: bool = False
    """Check what is given, say what would be done, and stop."""

    def __post_init__(self) -> None:
        if self.tile is not None and min(self.tile) < SMALLEST_TILE:
            raise InputError(f"tile is {list(self.tile)}; both sides must be at least {SMALLEST_TILE}")
        if self.max_pixels < 1:
            raise InputError(f"max_pixels is {self.max_pixels}; it must be at least 1")


class Labels(NamedTuple):
    """What is predicted for an image.

    ids: (H, W) in the type of label files, whose ignored value stands where pixels were rejected. confidence: (H, W) uint8, if wanted.
    """

    ids: np.ndarray
    confidence: np.ndarray | None


def predict(trained: TrainedSegmenter, image: torch.Tensor, device: torch.device, views: ViewConfig) -> torch.Tensor:
    """Class ids (H, W) of an image (3, H, W) uint8: resized as in training, predicted, and the ids brought back to its own size."""
    return _back(predict_views(trained.model, _ready(trained, image).to(device), views), image)


def predict_confidently(
    trained: TrainedSegmenter, image: torch.Tensor, device: torch.device, views: ViewConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `predict`, with the confidence (H, W) of every pixel in [-1, 1]."""
    ids, confidence = predict_with_confidence(trained.model, _ready(trained, image).to(device), views)
    return _back(ids, image), _back(confidence, image, torch.float32)


def _ready(trained: TrainedSegmenter, image: torch.Tensor) -> torch.Tensor:
    """(1, 3, h, w) as the network reads it."""
    height, width = image.shape[1:]
    size = trained.meta["config"]["input"]["resize"]
    blank = torch.zeros(height, width, dtype=torch.int64)
    ready = EvalResize(None if size is None else (size[0], size[1]))(Sample(image, blank, None, "")).image
    return ready[None]


def _back(found: torch.Tensor, image: torch.Tensor, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """(1, h, w) → (H, W) of the image."""
    return F.interpolate(found.cpu()[None].double(), image.shape[1:], mode="nearest-exact")[0, 0].to(dtype)


def predict_tiles(
    trained: TrainedSegmenter,
    image: torch.Tensor,
    device: torch.device,
    views: ViewConfig,
    tile: tuple[int, int] | None,
    threshold: float | None = None,
    with_confidence: bool = False,
) -> Labels:
    """As `predict`, tile by tile.

    Args:
        threshold: pixels with a smaller confidence are rejected; None: none are.
    """
    height, width = image.shape[1:]
    storage, ignored = label_storage(trained.spec.num_classes)
    ids, sure = np.empty((height, width), storage), np.empty((height, width), np.uint8) if with_confidence else None
    rows, columns = tile or (height, width)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            above, before = min(top, rows // 4), min(left, columns // 4)
            window = (..., slice(top - above, top + rows + rows // 4), slice(left - before, left + columns + columns // 4))
            here, inner = (
                (slice(top, top + rows), slice(left, left + columns)),
                (slice(above, above + rows), slice(before, before + columns)),
            )
            if threshold is None and sure is None:
                ids[here] = predict(trained, image[window], device, views)[inner].numpy()
                continue
            seen, confidence = predict_confidently(trained, image[window], device, views)
            rejected = confidence < (-torch.inf if threshold is None else threshold)
            ids[here] = seen.masked_fill(rejected, ignored)[inner].numpy()
            if sure is not None:
                sure[here] = (255 * confidence.clamp(0, 1)).round()[inner].numpy()
    return Labels(ids, sure)


def in_bands(make: Callable[[slice], np.ndarray], size: tuple[int, int], rows: int = 256) -> np.ndarray:
    """An (H, W, 3) uint8 picture whose bands of rows `make` makes, which takes the memory of one band beside it."""
    picture = np.empty((*size, 3), np.uint8)
    for top in range(0, size[0], rows):
        picture[top : top + rows] = make(slice(top, top + rows))
    return picture


def write(output: Path, spec: DatasetSpec, prediction: tuple[str, torch.Tensor, Labels]) -> None:
    """Write the pictures of a (name, image (3, H, W) uint8, what is predicted for it)."""
    name, image, (ids, confidence) = prediction
    ignored = label_storage(spec.num_classes)[1]

    def shown(band: slice) -> np.ndarray:
        return np.where(ids[band] == ignored, IGNORE_INDEX, ids[band].astype(np.int64))

    if confidence is not None:
        save_png(confidence, output / "confidence" / f"{name}.png")
    picture = image.permute(1, 2, 0).numpy()
    save_png(ids, output / "labels" / f"{name}.png")
    for folder, make in (
        ("colour", lambda band: colour_label_map(shown(band), spec.palette)),
        ("overlay", lambda band: overlay(picture[band], shown(band), spec.palette)),
    ):
        save_png(in_bands(make, ids.shape), output / folder / f"{name}.png")


def main(config: PredictConfig) -> None:
    device = choose_device(config.device)
    trained = load_segmenter(RunDirectory.open(config.run), config.checkpoint, device)
    threshold = Rejection.load(Path(config.run), trained.meta["step"]).threshold if config.reject else None
    if config.table is not None:
        trained = with_table(trained, config.table)
    files = expand_paths(config.images, IMAGE_SUFFIXES)
    output, spec = Path(config.output), trained.spec
    resized = trained.meta["config"]["input"]["resize"]
    if config.tile is not None and resized is not None:
        raise InputError(f"tile is {list(config.tile)}, but {config.run} reads whole images, resized to {list(resized)}; leave it out")
    if config.dry_run:
        print(f"would label {len(files)} images with {spec.num_classes} classes of {spec.name} and write to {output}")
        return
    # tiles are for large images: one of them at a time is in memory
    ahead = AHEAD if config.tile is None else 0
    images = in_threads(partial(read_image, max_pixels=config.max_pixels), files.values(), threads=THREADS, ahead=ahead)
    with_ids = (
        (name, image, predict_tiles(trained, image, device, config.views, config.tile, threshold, config.confidence))
        for name, image in progress(zip(files, images), "predict", total=len(files), unit="image")
    )
    for _ in in_threads(partial(write, output, spec), with_ids, threads=THREADS, ahead=ahead):
        pass  # pictures are encoded while the network goes on: that takes longer than a GPU needs for an image
    print(f"wrote labels, colour{', confidence' if config.confidence else ''} and overlay of {len(files)} images to {output}")


if __name__ == "__main__":
    run_program(main, PredictConfig, "seg.predict", positional={"run": None, "images": "+"}, short={"output": "-o"})
