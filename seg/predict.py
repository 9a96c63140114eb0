"""Label images with a trained network: `python -m seg.predict RUN IMAGES… -o DIR`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from seg.inference import ViewConfig
from seg.labelling import Labels, predict_labels, require_tile
from seg.rejection import Rejection
from seg.trained import load_segmenter, with_table
from shared.constants import IGNORE_INDEX
from shared.data.picture_files import expand_paths
from shared.data.pictures import IMAGE_SUFFIXES, MAX_PIXELS, read_image
from shared.data.spec import DatasetSpec
from shared.data.workers import in_threads
from shared.errors import InputError
from shared.run.directory import RunDirectory
from shared.run.program import run_program
from shared.run.training import choose_device, progress
from shared.visualise import colour_label_map, label_storage, overlay, save_png

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
        require_tile(self.tile)
        if self.max_pixels < 1:
            raise InputError(f"max_pixels is {self.max_pixels}; it must be at least 1")


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
    require_tile(config.tile, trained, config.run)
    if config.dry_run:
        print(f"would label {len(files)} images with {spec.num_classes} classes of {spec.name} and write to {output}")
        return
    # tiles are for large images: one of them at a time is in memory
    ahead = AHEAD if config.tile is None else 0
    images = in_threads(partial(read_image, max_pixels=config.max_pixels), files.values(), threads=THREADS, ahead=ahead)
    label = partial(predict_labels, threshold=threshold, with_confidence=config.confidence)
    with_ids = (
        (name, image, label(trained, image, device, config.views, config.tile))
        for name, image in progress(zip(files, images), "predict", total=len(files), unit="image")
    )
    for _ in in_threads(partial(write, output, spec), with_ids, threads=THREADS, ahead=ahead):
        pass  # pictures are encoded while the network goes on: that takes longer than a GPU needs for an image
    print(f"wrote labels, colour{', confidence' if config.confidence else ''} and overlay of {len(files)} images to {output}")


if __name__ == "__main__":
    run_program(main, PredictConfig, "seg.predict", positional={"run": None, "images": "+"}, short={"output": "-o"})
