"""Choose from which confidence on a pixel is of a class at all: `python -m seg.calibrate RUN`."""

import argparse
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from seg.config import InputConfig
from seg.inference import ViewConfig, predict_with_confidence
from seg.inputs import eval_transform
from seg.rejection import REJECTION_FILE, Confidences, Rejection, auroc, false_positives
from seg.trained import TrainedSegmenter, load_segmenter, require_same_classes
from shared.config import flatten
from shared.constants import IGNORE_INDEX
from shared.data import build_dataset, ids_of_classes
from shared.data.config import DataConfig
from shared.data.loader import BatchLoader, build_eval_loader
from shared.errors import InputError
from shared.run.directory import RunDirectory
from shared.run.program import run_program
from shared.run.training import choose_device


@dataclass
class CalibrateConfig:
    """Choose the confidence below which seg.predict --reject marks pixels as ignored, on the validation split, and keep it with the run."""

    run: str
    """Run directory of seg.train."""
    false_alarms: float = 0.05
    """Share of the pixels of known classes that are rejected."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint."""
    batch_size: int = 8
    """Images per batch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    data: DataConfig = field(default_factory=DataConfig)
    """The data set, with the settings of the run as defaults. Classes that the run ignored are the unknown that it is measured on."""
    input: InputConfig = field(default_factory=InputConfig)
    """Only resize is used."""
    dry_run: bool = False
    """Check what is given, say what would be done, and stop."""

    def __post_init__(self) -> None:
        if not 0 < self.false_alarms < 1:
            raise InputError(f"false_alarms is {self.false_alarms}; it must be above 0 and below 1")


def settings_of_run(given: argparse.Namespace) -> dict[str, Any]:
    """The run's own data and input settings, as defaults of the command line."""
    stored = RunDirectory.open(given.run).config
    return flatten({section: stored[section] for section in ("data", "input") if section in stored})


@torch.inference_mode()
def collect_confidences(trained: TrainedSegmenter, loader: BatchLoader, device: torch.device) -> tuple[Confidences, Confidences]:
    """Of the pixels of known classes, and of those that were ignored in the training."""
    known, unknown = Confidences(), Confidences()
    ignored = torch.tensor(ids_of_classes(trained.ignored_names, trained.spec), device=device, dtype=torch.int64)
    for batch in loader.with_progress("calibrate"):
        batch = batch.to(device)
        confidence = predict_with_confidence(trained.model, batch.images, ViewConfig())[1]
        is_unknown = torch.isin(batch.label_maps, ignored)
        known.add(confidence[~is_unknown & (batch.label_maps != IGNORE_INDEX)])
        unknown.add(confidence[is_unknown])
    return known, unknown


def main(config: CalibrateConfig) -> None:
    device = choose_device(config.device)
    run = RunDirectory.open(config.run)
    trained = load_segmenter(run, config.checkpoint, device)
    dataset = build_dataset(replace(config.data, ignore_classes=None), "val")
    require_same_classes(trained, dataset.spec, config.run)
    if config.dry_run:
        print(f"would choose a threshold on {len(dataset)} val images of {dataset.spec.name} and write {run.path / REJECTION_FILE}")
        return
    workers = config.data.num_workers
    loader = build_eval_loader(dataset, eval_transform(config.input), batch_size=config.batch_size, num_workers=workers, device=device)
    known, unknown = collect_confidences(trained, loader, device)
    if not known.total:
        raise InputError(f"the val split of {dataset.spec.name} holds no pixel of a class that {config.run} knows; give it some")
    threshold = known.threshold(config.false_alarms)
    about_unknown = {
        "pixels": unknown.total,
        "auroc": auroc(known, unknown),
        "fpr95": false_positives(known, unknown),
        "rejected": unknown.share_below(threshold),
    }
    found = Rejection(threshold, config.false_alarms, trained.meta["step"], len(dataset), "val", about_unknown if unknown.total else {})
    found.save(run.path / REJECTION_FILE)
    print(f"confidence below {threshold:.4f} is rejected: {known.share_below(threshold):.2%} of the pixels of known classes")
    if unknown.total:
        print(
            f"classes that were ignored in the training: {about_unknown['rejected']:.2%} of their {unknown.total} pixels; AUROC "
            f"{about_unknown['auroc']:.4f}, {about_unknown['fpr95']:.2%} of known pixels rejected where 95 % of theirs are"
        )
    print(f"wrote {run.path / REJECTION_FILE}")


if __name__ == "__main__":
    run_program(main, CalibrateConfig, "seg.calibrate", positional={"run": None}, inherit=settings_of_run)
