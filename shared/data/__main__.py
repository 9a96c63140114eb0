"""`python -m shared.data`: check and count the files of a data set, write it in another form, and time its reading."""

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from shared.data import DataConfig, build_dataset
from shared.data.cocolvis_build import build_coco_lvis
from shared.data.cocolvis_files import StuffSource
from shared.data.folder import ImageFormat, write_folder
from shared.data.spec import SegmentationDataset
from shared.data.speed import measure_input
from shared.data.statistics import ClassStatistics, check_split, class_statistics
from shared.data.survey import Survey, complaint
from shared.errors import InputError
from shared.run.program import run_program


@dataclass
class DataCommand:
    """Check a data set, count its classes, write it as a folder of files, time its reading, or make the label files of COCO+LVIS."""

    command: Literal["check", "stats", "write", "build-coco-lvis", "speed"]
    """check: read every file and list every problem; stats: pixels and images of each class, picture sizes; write: images and 8- or 16-bit
    label files in the layout of data.name folder; build-coco-lvis: label files of 1284 classes from LVIS v1 and COCO's stuff. All work in
    data.num_workers processes, and what writes goes on where it was stopped. speed: samples per second that one core reads and augments."""
    split: Literal["train", "val", "both"] = "both"
    """Splits to read."""
    output: str | None = None
    """Folder to write to. stats: statistics_train.safetensors and statistics_val.safetensors, for --statistics of seg.train; null: none.
    write, build-coco-lvis: the files; needed."""
    coco: str | None = None
    """COCO's folder, with stuffthingmaps/{train,val}2017 or annotations/stuff_{train,val}2017.json (build-coco-lvis)."""
    lvis: str | None = None
    """Folder with lvis_v1_train.json and lvis_v1_val.json (build-coco-lvis)."""
    stuff: StuffSource = "maps"
    """Where the stuff comes from: maps (stuffthingmaps) or json (build-coco-lvis)."""
    as_published: bool = False
    """Repeat the errors of the generator that the paper's labels were made with; needs stuff json (build-coco-lvis)."""
    skip_bad: bool = False
    """Leave out annotations that cannot be used, and say how many; else the first is an error (build-coco-lvis)."""
    image_format: ImageFormat = "png"
    """Format of the images: png, or jpeg, which is smaller, faster to read, and not exact (write)."""
    crop: tuple[int, int] = (512, 512)
    """(height, width) in pixels of the training crop (speed)."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the random factor that images are scaled with before the crop (speed)."""
    seconds: float = 10.0
    """Time for each measurement (speed)."""
    data: DataConfig = field(default_factory=DataConfig)
    """Data set."""


def run(config: DataCommand) -> None:
    """Do what the command says, split by split.

    Raises:
        InputError: a split has problems, or cannot be built at all.
    """
    if config.command == "build-coco-lvis":
        build(config)
        return
    splits: tuple[Literal["train", "val"], ...] = ("train", "val") if config.split == "both" else (config.split,)
    if config.command == "write":
        write([build_dataset(config.data, split) for split in splits], config)
        return
    num_problems = 0
    for split in splits:
        dataset = build_dataset(config.data, split)
        if config.command == "speed":
            print(f"{split}: {speed(dataset, config)}")
            continue
        if config.command == "stats":
            count(dataset, config)
            continue
        num_problems += check(dataset, config.data.num_workers)
    if num_problems:
        raise InputError(f"{num_problems} samples have problems, listed above; correct them before training")


def check(dataset: SegmentationDataset, num_workers: int) -> int:
    """Print what is wrong with each sample of a split, what may surprise, and whether its classes occur; the number of wrong samples.

    Raises:
        InputError: all samples are right, and nothing is labelled.
    """
    found = check_split(dataset, num_workers)
    print(
        "\n".join([f"{dataset.split}: {len(dataset)} samples, {len(found.problems)} with problems", *chain.from_iterable(found.problems)])
    )
    for note in found.notes:
        print(f"note: {note}")
    if not found.problems and (line := complaint(Survey(found.statistics, len(dataset)), dataset)):
        print(f"warning: {line}")
    return len(found.problems)


def count(dataset: SegmentationDataset, config: DataCommand) -> None:
    """Write the counts of a split where the settings say so, and print them."""
    statistics = class_statistics(dataset, config.data.num_workers)
    path = None if config.output is None else Path(config.output, f"statistics_{dataset.split}.safetensors")
    if path is not None:
        statistics.save(path)
    print(describe(statistics))
    if path is not None:
        print(f"wrote {path}")


def write(datasets: list[SegmentationDataset], config: DataCommand) -> None:
    """Write the data set as a folder and say how it is read.

    Raises:
        InputError: no folder is given, or see `write_folder`.
    """
    if config.output is None:
        raise InputError("write needs -o FOLDER")
    settings = write_folder(datasets, config.output, image_format=config.image_format, num_workers=config.data.num_workers)
    print(f"wrote {sum(map(len, datasets))} samples of {datasets[0].spec.num_classes} classes; read them with", *settings)


def speed(dataset: SegmentationDataset, config: DataCommand) -> str:
    """Samples per second of one core, in words."""
    found = measure_input(dataset, config.crop, config.scale, config.seconds)
    height, width = dataset[0].label_map.shape
    return (
        f"{height}x{width} pixels, crop {config.crop[0]}x{config.crop[1]}; samples per second on one core: read {found.read:.1f}, "
        f"augment {found.augment:.1f}, both {found.both:.1f}"
    )


def build(config: DataCommand) -> None:
    """Make the label files of COCO+LVIS and say how they came out.

    Raises:
        InputError: a folder is not given, or see `build_coco_lvis`.
    """
    if config.coco is None or config.lvis is None or config.output is None:
        raise InputError("build-coco-lvis needs --coco FOLDER, --lvis FOLDER and -o FOLDER")
    output = Path(config.output)
    found = build_coco_lvis(
        Path(config.coco),
        Path(config.lvis),
        output,
        stuff=config.stuff,
        as_published=config.as_published,
        skip_bad=config.skip_bad,
        num_workers=config.data.num_workers,
    )
    for split, counts in found.statistics.items():
        print(f"{split}: {len(counts.names)} images, {(counts.images > 0).sum()} of {len(counts.class_names)} classes occur")
    if found.left_out:
        shown = "; ".join(found.left_out[:3]) + ("; …" if len(found.left_out) > 3 else "")
        print(f"left out {len(found.left_out)} annotations that cannot be used: {shown}")
    print(f"wrote {output}; classes and the tail of rare ones are listed in {output / 'report.md'}")


def describe(statistics: ClassStatistics) -> str:
    """A table with a line per class, under the sizes of the pictures."""
    class_names = statistics.class_names
    num_images = statistics.sizes.total()
    total = int(statistics.pixels.sum()) + statistics.ignored_pixels
    sizes = ", ".join(f"{height}x{width} ({count})" for (height, width), count in statistics.sizes.most_common(5))
    more = f" and {len(statistics.sizes) - 5} more" if len(statistics.sizes) > 5 else ""
    lines = [
        f"{statistics.split}: {num_images} images; height x width (images): {sizes}{more}",
        f"{'id':>6} {'pixels':>14} {'share':>9} {'images':>8}  class",
    ]
    for index, (name, pixels, images) in enumerate(zip(class_names, statistics.pixels, statistics.images)):
        lines.append(f"{index:>6} {pixels:>14} {pixels / total:>9.3%} {images:>8}  {name}")
    absent = int((statistics.pixels == 0).sum())
    lines.append(f"{'':>6} {statistics.ignored_pixels:>14} {statistics.ignored_pixels / total:>9.3%} {'':>8}  (ignored)")
    lines.append(f"{absent} of {len(class_names)} classes do not occur")
    return "\n".join(lines)


if __name__ == "__main__":
    run_program(run, DataCommand, "shared.data", positional={"command": None}, short={"output": "-o"})
