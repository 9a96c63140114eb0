"""Score a trained segmentation network: `python -m seg.evaluate RUN`."""

import argparse
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from seg.config import InputConfig
from seg.inference import FIGURES_OF_UNSEEN, ViewConfig, class_table, evaluate, seen_and_unseen, summary, write_evaluation
from seg.inputs import eval_transform
from seg.trained import load_segmenter, require_same_classes, with_table
from shared.config import flatten
from shared.data import build_dataset
from shared.data.config import DataConfig
from shared.data.early_check import check_early
from shared.data.loader import build_eval_loader
from shared.distributed import is_first, my_share
from shared.metrics import cumulative_miou
from shared.run.directory import RunDirectory
from shared.run.program import run_program
from shared.run.training import choose_device


@dataclass
class EvaluateConfig:
    """Score a trained segmentation network: mIoU, pixel accuracy, mean accuracy, FwIoU and a table of classes."""

    run: str
    """Run directory of seg.train. Its data and input settings are the defaults below."""
    json: str | None = None
    """Also write the figures to this JSON file."""
    table: str | None = None
    """File with a vector for every class of the data (.safetensors, .npz, .npy, .csv), which need not occur in the training. Null: the
    class embeddings of the run."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint."""
    split: Literal["train", "val"] = "val"
    """Which split."""
    batch_size: int = 8
    """Images per batch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    data: DataConfig = field(default_factory=DataConfig)
    """The data set; any with the classes of the run."""
    input: InputConfig = field(default_factory=InputConfig)
    """Only resize is used."""
    views: ViewConfig = field(default_factory=ViewConfig)
    """Sliding windows, scales and mirroring."""
    dry_run: bool = False
    """Check what is given, say what would be done, and stop."""


def settings_of_run(given: argparse.Namespace) -> dict[str, Any]:
    """The run's own data and input settings, as defaults of the command line."""
    stored = RunDirectory.open(given.run).config
    return flatten({section: stored[section] for section in ("data", "input") if section in stored})


def main(config: EvaluateConfig) -> None:
    device = choose_device(config.device)
    trained = load_segmenter(RunDirectory.open(config.run), config.checkpoint, device)
    dataset = build_dataset(config.data, config.split)
    if config.table is not None:
        trained = with_table(trained, config.table, dataset.spec)
    require_same_classes(trained, dataset.spec, config.run)
    workers, mine = config.data.num_workers, my_share(len(dataset))
    loader = build_eval_loader(
        dataset, eval_transform(config.input), batch_size=config.batch_size, num_workers=workers, samples=mine, device=device
    )
    early = check_early(dataset)
    if config.dry_run:
        if early is not None:
            print(early.line(config.split))
        print(f"would evaluate {config.checkpoint} of {config.run} on {len(dataset)} {config.split} images of {dataset.spec.name}")
        return
    unseen = [name for name in trained.ignored_names if name not in (config.data.ignore_classes or [])]
    matrix = evaluate(trained.model, loader, trained.spec.num_classes, device, config.views)
    if not is_first():
        return

    order, curve = cumulative_miou(matrix.labelled_pixels.cpu().numpy(), matrix.iou().numpy())
    if config.json is not None:
        about = {
            "run": config.run,
            "dataset": dataset.spec.name,
            "step": trained.meta["step"],
            "split": config.split,
            "images": len(dataset),
            "views": asdict(config.views),
        }
        curve_data = {"classes": [trained.spec.class_names[index] for index in order], "miou": curve.tolist()}
        told_apart = {"unseen": seen_and_unseen(matrix, trained.spec, unseen)} if unseen else {}
        write_evaluation(Path(config.json), matrix, trained.spec, about | {"cumulative_miou": curve_data} | told_apart)
    # after the file, which a terminal that is closed does not take away
    print(class_table(matrix, trained.spec))
    marks = sorted({min(len(order), count) for count in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, len(order))})
    print("mIoU of the n most frequent classes: " + ", ".join(f"{n}: {100 * curve[n - 1]:.2f} %" for n in marks if n))
    print(", ".join(f"{key} {100 * value:.2f} %" for key, value in summary(matrix).items()) + f" on {len(dataset)} images")
    if unseen:
        figures = seen_and_unseen(matrix, trained.spec, unseen)
        shown = ", ".join(f"{title} {100 * figures[key]:.2f} %" for key, title in FIGURES_OF_UNSEEN.items())
        print(f"{len(unseen)} classes that were ignored in the training, beside the others: {shown}")
    if config.json is not None:
        print(f"wrote {config.json}")


if __name__ == "__main__":
    run_program(main, EvaluateConfig, "seg.evaluate", positional={"run": None}, inherit=settings_of_run)
