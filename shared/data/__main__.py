"""`python -m shared.data`: check and count the files of a data set, write it in another form, and time its reading."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from shared.data import DataConfig, Split, build_dataset
from shared.data.cocolvis_build import build_coco_lvis
from shared.data.cocolvis_files import StuffSource
from shared.data.codes import border_codes, count_borders, save_codes
from shared.data.folder import ImageFormat, write_folder
from shared.data.spec import SegmentationDataset
from shared.data.speed import measure_input
from shared.data.statistics import ClassStatistics, check_split, class_statistics
from shared.data.survey import Survey, complaint
from shared.errors import InputError
from shared.files.json_file import write_json
from shared.run.program import Command, run_commands


@dataclass
class SplitsConfig:
    """What the commands on a data set have in common."""

    split: Literal["train", "val", "both"] = "both"
    """Splits to read."""
    data: DataConfig = field(default_factory=DataConfig)
    """Data set."""

    def datasets(self) -> Iterator[SegmentationDataset]:
        """The splits, one after the other."""
        splits: tuple[Split, ...] = ("train", "val") if self.split == "both" else (self.split,)
        return (build_dataset(self.data, split) for split in splits)


@dataclass
class CheckConfig(SplitsConfig):
    """Read every file of a data set and list every problem: unreadable, of another size or depth, values out of range."""

    json: str | None = None
    """Also write the number of samples and the problems to this JSON file."""


@dataclass
class StatsConfig(SplitsConfig):
    """Count the pixels and images of each class, and the sizes of the pictures."""

    output: str | None = None
    """Folder for the counts, statistics_train.safetensors and statistics_val.safetensors, which --statistics of seg.train and seg.inspect
    takes. Null: none are written."""
    json: str | None = None
    """Also write what is printed to this JSON file."""


@dataclass
class CodesConfig:
    """Write a table of class vectors made of which classes border on which, as classes.table of seg.train takes it."""

    output: str
    """File to write, .npz."""
    width: int = 12
    """Numbers per class."""
    split: Literal["train", "val"] = "train"
    """Split whose label maps are read."""
    data: DataConfig = field(default_factory=DataConfig)
    """Data set."""

    def __post_init__(self) -> None:
        if Path(self.output).suffix != ".npz":
            raise InputError(f"output is {self.output}; the name of a table of codes must end in .npz")


@dataclass
class WriteConfig(SplitsConfig):
    """Write a data set as images and 8- or 16-bit label files, in the layout that data.name folder reads."""

    output: str = field(kw_only=True)
    """Folder to write to; what is there already is kept, so that the same command goes on where it was stopped."""
    image_format: ImageFormat = "png"
    """Format of the images: png, or jpeg, which is smaller, faster to read, and not exact."""


@dataclass
class SpeedConfig(SplitsConfig):
    """Measure how many samples per second one core reads and augments."""

    crop: tuple[int, int] = (512, 512)
    """(height, width) in pixels of the training crop."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Range of the random factor that images are scaled with before the crop."""
    seconds: float = 10.0
    """Time for each measurement."""
    json: str | None = None
    """Also write the figures to this JSON file."""


@dataclass
class WorkersConfig:
    """How the files are made."""

    num_workers: int = 2
    """Processes that make label files; 0: this one. Results are the same for any number."""

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise InputError(f"data.num_workers is {self.num_workers}; it must be 0 or more")


@dataclass
class BuildConfig:
    """Make the label files of COCO+LVIS, 1284 classes, from LVIS v1 and COCO's stuff."""

    coco: str
    """COCO's folder, with stuffthingmaps/{train,val}2017 or annotations/stuff_{train,val}2017.json."""
    lvis: str
    """Folder with lvis_v1_train.json and lvis_v1_val.json."""
    output: str
    """Folder to write to; what is there already is kept, so that the same command goes on where it was stopped."""
    stuff: StuffSource = "maps"
    """Where the stuff comes from: maps (stuffthingmaps) or json."""
    as_published: bool = False
    """Repeat the errors of the generator that the paper's labels were made with; needs stuff json."""
    skip_bad: bool = False
    """Leave out annotations that cannot be used, and say how many; else the first is an error."""
    data: WorkersConfig = field(default_factory=WorkersConfig)
    """How the files are made."""


def check(config: CheckConfig) -> None:
    """Read every sample.

    Raises:
        InputError: a split has problems, has nothing that is labelled, or cannot be built at all.
    """
    found, num_problems = {}, 0
    for dataset in config.datasets():
        checked = check_split(dataset, config.data.num_workers)
        found[dataset.split] = {"samples": len(dataset), "problems": checked.problems, "notes": checked.notes}
        if config.json is not None:
            write_json(config.json, found)
        summary = f"{dataset.split}: {len(dataset)} samples, {len(checked.problems)} with problems"
        print("\n".join([summary, *chain.from_iterable(checked.problems)]))
        for note in checked.notes:
            print(f"note: {note}")
        if not checked.problems and (line := complaint(Survey(checked.statistics, len(dataset)), dataset)):
            print(f"warning: {line}")
        num_problems += len(checked.problems)
    if num_problems:
        raise InputError(f"{num_problems} samples have problems, listed above; correct them before training")


def stats(config: StatsConfig) -> None:
    """Count, write what was asked for, and print."""
    found = {}
    for dataset in config.datasets():
        statistics = class_statistics(dataset, config.data.num_workers)
        found[dataset.split] = figures_of(statistics)
        path = None if config.output is None else Path(config.output, f"statistics_{dataset.split}.safetensors")
        if path is not None:
            statistics.save(path)
        if config.json is not None:
            write_json(config.json, found)
        print(describe(statistics))
        if path is not None:
            print(f"wrote {path}")


def codes(config: CodesConfig) -> None:
    """Count borders and write the table.

    Raises:
        InputError: the width does not suit the number of classes.
    """
    dataset = build_dataset(config.data, config.split)
    vectors = border_codes(count_borders(dataset, config.data.num_workers), config.width)
    save_codes(config.output, dataset.spec.class_names, vectors)
    print(f"wrote {config.output}: codes of width {config.width} for {len(vectors)} classes, from {len(dataset)} {config.split} label maps")


def write(config: WriteConfig) -> None:
    """Write the data set as a folder and say how it is read.

    Raises:
        InputError: see `write_folder`.
    """
    datasets = list(config.datasets())
    settings = write_folder(datasets, config.output, image_format=config.image_format, num_workers=config.data.num_workers)
    print(f"wrote {sum(map(len, datasets))} samples of {datasets[0].spec.num_classes} classes; read them with", *settings)


def speed(config: SpeedConfig) -> None:
    """Measure split by split."""
    measured = {}
    for dataset in config.datasets():
        found = measure_input(dataset, config.crop, config.scale, config.seconds)
        height, width = dataset[0].label_map.shape
        print(
            f"{dataset.split}: {height}x{width} pixels, crop {config.crop[0]}x{config.crop[1]}; samples per second on one core: "
            f"read {found.read:.1f}, augment {found.augment:.1f}, both {found.both:.1f}"
        )
        sizes = {"size": [height, width], "crop": config.crop}
        measured[dataset.split] = sizes | {"read": found.read, "augment": found.augment, "both": found.both}
    if config.json is not None:
        write_json(config.json, measured)


def build(config: BuildConfig) -> None:
    """Make the label files of COCO+LVIS and say how they came out.

    Raises:
        InputError: see `build_coco_lvis`.
    """
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


def figures_of(statistics: ClassStatistics) -> dict[str, Any]:
    """Plain values for JSON, the classes in the order of their ids."""
    classes = zip(statistics.class_names, statistics.pixels.tolist(), statistics.images.tolist())
    return {
        "dataset": statistics.dataset,
        "images": len(statistics.names),
        "sizes": [{"size": list(size), "images": count} for size, count in statistics.sizes.most_common()],
        "ignored_pixels": statistics.ignored_pixels,
        "classes": [{"name": name, "pixels": pixels, "images": images} for name, pixels, images in classes],
    }


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


COMMANDS = {
    "check": Command(check, CheckConfig),
    "stats": Command(stats, StatsConfig, {"output": "-o"}),
    "codes": Command(codes, CodesConfig, {"output": "-o"}),
    "write": Command(write, WriteConfig, {"output": "-o"}),
    "speed": Command(speed, SpeedConfig),
    "build-coco-lvis": Command(build, BuildConfig, {"output": "-o"}),
}


def main() -> None:
    """The program."""
    run_commands(COMMANDS, "shared.data", "Check and count the files of a data set, write it in another form, and time its reading.")


if __name__ == "__main__":
    main()
