"""The parts of the comparison report that are not scores: pictures, protocol, where the networks came from, what ran."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.config import flatten, to_dict
from shared.data.loader import BatchLoader
from shared.data.spec import DatasetSpec
from shared.embedding_file import ClassEmbeddings
from shared.fid.features import FeatureNetwork
from shared.report import Command, Picture, ProtocolItem, SegmentationResult
from shared.rundir import RunDirectory
from shared.visualise import colour_label_map
from synth.arms import Arm, read_png
from synth.commands import CommandLog
from synth.config import CompareConfig


def layout_pictures(arms: Sequence[Arm], names: list[str], real: Path, loader: BatchLoader, spec: DatasetSpec, count: int) -> list[Picture]:
    """`count` validation layouts, evenly spread, with the images of every arm's first seed."""
    chosen = {names[index] for index in np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)}
    shown = [arm for arm in arms if arm.seed == arms[0].seed]
    return [
        Picture(
            name,
            colour_label_map(label_map, spec.palette),
            read_png(real / "images" / f"{name}.png"),
            {arm.title: read_png(arm.images / f"{name}.png") for arm in shown},
        )
        for batch in loader
        for name, label_map in zip(batch.names, batch.label_maps)
        if name in chosen
    ]


def protocol_items(config: CompareConfig, embeddings: ClassEmbeddings | None, num_real: int) -> list[ProtocolItem]:
    """What every arm shared, for a reader and for whoever repeats it."""
    table = (
        "no embedding file"
        if embeddings is None
        else f"{embeddings.vectors.shape[1]} numbers per class, unit norm, random and learned alike"
    )
    items = {
        "images compared": f"{num_real} validation images, and one generated from each of their label maps; 8-bit PNG of the same size",
        "embedding tables": table,
        "ignored pixels": "a channel of their own (one-hot), the zero vector (tables)",
    }
    settings = {section: to_dict(getattr(config, section)) for section in ("input", "generator", "discriminator", "loss", "train")}
    hidden = ("train.seed", "train.stop_after", "train.device", "train.log_every", "train.save_every", "train.sample_every")
    items |= {key: str(value) for key, value in flatten(settings).items() if key not in hidden}
    return [ProtocolItem(key, value) for key, value in items.items()]


def segmentation_runs(segmenter: RunDirectory, embeddings: ClassEmbeddings | None) -> list[RunDirectory]:
    """The run that segments, and the run that the embeddings came from, where it is still there."""
    runs = [segmenter]
    if embeddings is not None and "run" in embeddings.meta:
        runs.append(RunDirectory(Path(str(embeddings.meta["run"]))))
    return [run for run in runs if (run.path / "evaluation.json").is_file()]


def segmentation_results(segmenter: RunDirectory, embeddings: ClassEmbeddings | None) -> list[SegmentationResult]:
    """How the two networks do on the validation split, from their evaluation.json; figures in percent."""
    results = []
    for run in segmentation_runs(segmenter, embeddings):
        figures = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
        percent = {key: 100 * figures[key] for key in ("miou", "pixel_accuracy", "mean_accuracy", "fwiou")}
        title = "scores the images" if run is segmenter else "learned the embeddings"
        results.append(
            SegmentationResult(
                title, figures["head"], num_images=figures["images"], seconds=figures["seconds"], steps=figures["step"], **percent
            )
        )
    return results


def commands_run(segmenter: RunDirectory, embeddings: ClassEmbeddings | None, commands: CommandLog) -> list[Command]:
    """Every command behind the report, in order."""
    listed = []
    for run in segmentation_runs(segmenter, embeddings):
        environment = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
        seconds = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))["seconds"]
        listed.append(Command(environment["command"], seconds))
    return listed + [Command(line, seconds) for line, seconds in commands.seconds.items()]


def notes_of(arms: Sequence[Arm], network: FeatureNetwork, features: str) -> list[str]:
    """Caveats that the numbers alone do not show."""
    notes = []
    if network.title != "FID":
        why = "the Inception weights were not to be had" if features == "auto" else "the encoder's features were asked for"
        notes.append(f"The distance is {network.title} and not FID, because {why}.")
    if not any(name == "generator/vgg" for name in arms[0].loss_curves()):
        notes.append("Trained without the VGG loss: its weight is 0, or its weights were not to be had.")
    return notes
