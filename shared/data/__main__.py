"""`python -m shared.data check` lists every damaged or wrong file; `python -m shared.data stats` prints class frequencies."""

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from shared.data import DataConfig, build_dataset
from shared.data.statistics import ClassStatistics, class_statistics, find_problems
from shared.errors import InputError
from shared.program import run_program


@dataclass
class DataCommand:
    """Check a data set, or count its classes."""

    command: Literal["check", "stats"]
    """check: read every file and list every problem; stats: pixels and images of each class, picture sizes."""
    split: Literal["train", "val", "both"] = "both"
    """Splits to read."""
    output: str | None = None
    """Folder for statistics_train.safetensors and statistics_val.safetensors, the counts of stats, for data.sampling. Null: none."""
    data: DataConfig = field(default_factory=DataConfig)
    """Data set."""


def run(config: DataCommand) -> None:
    """Read the splits in turn.

    Raises:
        InputError: a split has problems, or cannot be built at all.
    """
    splits: tuple[Literal["train", "val"], ...] = ("train", "val") if config.split == "both" else (config.split,)
    num_problems = 0
    for split in splits:
        dataset = build_dataset(config.data, split)
        if config.command == "stats":
            statistics = class_statistics(dataset, config.data.num_workers)
            print(describe(statistics))
            if config.output is not None:
                path = Path(config.output, f"statistics_{split}.safetensors")
                statistics.save(path)
                print(f"wrote {path}")
            continue
        problems = find_problems(dataset, config.data.num_workers)
        print("\n".join([f"{split}: {len(dataset)} samples, {len(problems)} with problems", *chain.from_iterable(problems)]))
        num_problems += len(problems)
    if num_problems:
        raise InputError(f"{num_problems} samples have problems, listed above; correct them before training")


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
