"""Label images with a trained network: `python -m seg.predict RUN IMAGES… -o DIR`."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F

from seg.inference import ViewConfig, predict_views
from seg.trained import TrainedSegmenter, load_segmenter
from shared.data.pairs import expand_paths
from shared.data.pictures import IMAGE_SUFFIXES, read_image
from shared.data.spec import DatasetSpec, Sample
from shared.data.transforms import EvalResize
from shared.data.workers import in_threads
from shared.run.directory import RunDirectory
from shared.run.program import run_program
from shared.run.training import choose_device, progress
from shared.visualise import colour_label_map, overlay, save_label_png, save_png

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
    """Folder for labels/, colour/ and overlay/. Ignored pixels do not occur; ids are those of the class list."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    views: ViewConfig = field(default_factory=ViewConfig)
    """Sliding windows, scales and mirroring."""
    dry_run: bool = False
    """Check what is given, say what would be done, and stop."""


def predict(trained: TrainedSegmenter, image: torch.Tensor, device: torch.device, views: ViewConfig) -> torch.Tensor:
    """Class ids (H, W) of an image (3, H, W) uint8: resized as in training, predicted, and the ids brought back to its own size."""
    height, width = image.shape[1:]
    size = trained.meta["config"]["input"]["resize"]
    blank = torch.zeros(height, width, dtype=torch.int64)
    ready = EvalResize(None if size is None else (size[0], size[1]))(Sample(image, blank, None, "")).image
    ids = predict_views(trained.model, ready[None].to(device), views).cpu()
    return F.interpolate(ids[None].double(), (height, width), mode="nearest-exact")[0, 0].long()


def write(output: Path, spec: DatasetSpec, prediction: tuple[str, torch.Tensor, torch.Tensor]) -> None:
    """Write the three pictures of a (name, image (3, H, W) uint8, class ids (H, W))."""
    name, image, ids = prediction
    save_label_png(ids, output / "labels" / f"{name}.png", num_classes=spec.num_classes)
    save_png(colour_label_map(ids, spec.palette), output / "colour" / f"{name}.png")
    save_png(overlay(image.permute(1, 2, 0).numpy(), ids, spec.palette), output / "overlay" / f"{name}.png")


def main(config: PredictConfig) -> None:
    device = choose_device(config.device)
    trained = load_segmenter(RunDirectory.open(config.run), config.checkpoint, device)
    files = expand_paths(config.images, IMAGE_SUFFIXES)
    output, spec = Path(config.output), trained.spec
    if config.dry_run:
        print(f"would label {len(files)} images with {spec.num_classes} classes of {spec.name} and write to {output}")
        return
    images = in_threads(read_image, files.values(), threads=THREADS, ahead=AHEAD)
    with_ids = (
        (name, image, predict(trained, image, device, config.views))
        for name, image in progress(zip(files, images), "predict", total=len(files), unit="image")
    )
    for _ in in_threads(partial(write, output, spec), with_ids, threads=THREADS, ahead=AHEAD):
        pass  # pictures are encoded while the network goes on: that takes longer than a GPU needs for an image
    print(f"wrote labels, colour and overlay of {len(files)} images to {output}")


if __name__ == "__main__":
    run_program(main, PredictConfig, "seg.predict", positional={"run": None, "images": "+"}, short={"output": "-o"})
