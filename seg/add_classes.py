"""New classes from a few masks, without training: `python -m seg.add_classes RUN --images DIR --labels DIR --names FILE -o NEWRUN`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seg.config import InputConfig
from seg.inputs import eval_transform
from seg.model import EmbeddingSegmenter
from seg.new_classes import MaskedPixels, collect_pixels, mean_vectors, refine_vectors
from seg.trained import TrainedSegmenter, export, extended, load_segmenter, write_run
from shared.data.class_lists import read_class_names, require_different
from shared.data.config import FolderConfig
from shared.data.folder import FolderDataset
from shared.data.loader import build_eval_loader
from shared.errors import InputError
from shared.run.directory import RunDirectory
from shared.run.program import run_program
from shared.run.training import choose_device

OTHERS = "none of the new classes"


@dataclass
class AddClassesConfig:
    """Give a trained network classes that it has not seen, from masks in a few images: their vectors are the mean pixel embeddings of the
    masks. The old classes stay as they are."""

    run: str
    """Run directory of seg.train, with head embedding."""
    images: str
    """Folder of images."""
    labels: str
    """Folder of label PNGs, paired with the images by name: 0 is none of the new classes, 1 the first of the names, 2 the second, and so
    on; 255 (ignore_value) is not looked at."""
    names: str
    """The new classes: a file with a name per line (or as data.folder.class_names takes it)."""
    output: str
    """Run directory to write."""
    ignore_value: int | None = 255
    """Value in the label files of pixels that are not looked at; null: there are none."""
    refine: int = 0
    """Steps in which the new vectors alone are then trained on these images: pixels of 0 stay with the old class that the run gives them.
    0: the means as they are."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    dry_run: bool = False
    """Check what is given, say what would be done, and stop."""

    def __post_init__(self) -> None:
        if self.refine < 0:
            raise InputError(f"refine is {self.refine}; it must be 0 or more")


def new_names(path: str, trained: TrainedSegmenter) -> list[str]:
    """The names of the file.

    Raises:
        InputError: one of them is a class of the run already, unless it was ignored in the training.
    """
    names = read_class_names(Path(path), "check --names")
    require_different(names, path)
    known = [name for name in names if name in trained.known_names]
    if known:
        raise InputError(f"{path} names {known[0]}, which the run knows already; give new classes names of their own, or leave it out")
    return names


def require_masks(pixels: MaskedPixels, names: Sequence[str], labels: str) -> None:
    """Refuse new classes without a pixel."""
    empty = [name for name, count in zip(names, pixels.counts) if count == 0]
    if empty:
        more = f" ({len(empty) - 1} more)" if len(empty) > 1 else ""
        value = names.index(empty[0]) + 1
        raise InputError(f"no mask in {labels} has a pixel of {empty[0]}{more}, which is value {value}; mark some, or leave it out")


def main(config: AddClassesConfig) -> None:
    device = choose_device(config.device)
    trained = load_segmenter(RunDirectory.open(config.run), config.checkpoint, device)
    if not isinstance(trained.model, EmbeddingSegmenter):
        raise InputError(f"{config.run} has head softmax, whose classes have no vectors; take a run with head embedding")
    names = new_names(config.names, trained)
    folder = FolderConfig(
        train_images=str(Path(config.images).absolute()),
        train_labels=str(Path(config.labels).absolute()),
        class_names=[OTHERS, *names],
        ignore_value=config.ignore_value,
    )
    dataset = FolderDataset(".", "train", folder)
    output = RunDirectory(Path(config.output))
    if output.path.exists() and any(output.path.iterdir()):
        raise InputError(f"{output.path} is not empty; give -o a folder that is new")
    if config.dry_run:
        print(f"would add {', '.join(names)} to {config.run} from {len(dataset)} images and write {output.path}")
        return

    size = trained.meta["config"]["input"]["resize"]
    transform = eval_transform(InputConfig(resize=None if size is None else (size[0], size[1])))
    loader = build_eval_loader(dataset, transform, batch_size=1, num_workers=0)
    pixels = collect_pixels(trained.model, loader, len(names), device)
    require_masks(pixels, names, config.labels)
    vectors = mean_vectors(pixels)
    if config.refine:
        vectors = refine_vectors(vectors, pixels, *trained.model.class_vectors, steps=config.refine)
    bigger = extended(trained, names, vectors, origin=config.run)
    write_run(output, bigger)
    about = {"run": str(output.path), "step": bigger.meta["step"], "added": ", ".join(names)}
    written = export(bigger, output.path, about)
    for name, count in zip(names, pixels.counts):
        output.log(f"added {name}, from {count} pixels")
    for path in written:
        output.log(f"wrote {path}")
    output.close()


if __name__ == "__main__":
    run_program(main, AddClassesConfig, "seg.add_classes", positional={"run": None}, short={"output": "-o"})
