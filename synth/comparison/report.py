"""The parts of the comparison report that are not scores: pictures, protocol, where the networks came from, what ran."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from shared.config import flatten, to_dict
from shared.data.loader import BatchLoader
from shared.data.spec import DatasetSpec
from shared.embedding_file import ClassEmbeddings
from shared.fid.features import FeatureNetwork
from shared.report import ClassScores, Command, Picture, ProtocolItem, SegmentationResult
from shared.run.directory import RunDirectory
from shared.visualise import colour_label_map, read_png, save_png
from synth.comparison.arms import Arm
from synth.comparison.commands import CommandLog
from synth.comparison.config import CompareConfig
from synth.comparison.scoring import percent, segmented_file


def shown_names(names: list[str], count: int) -> list[str]:
    """`count` of the validation layouts, evenly spread."""
    return [names[index] for index in sorted(set(np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int).tolist()))]


def layout_pictures(arms: Sequence[Arm], shown: list[str], real: Path, loader: BatchLoader, spec: DatasetSpec) -> list[Picture]:
    """The layouts `shown`, with the images of every arm's first seed."""
    first = [arm for arm in arms if arm.seed == arms[0].seed]
    return [
        Picture(
            name,
            colour_label_map(label_map, spec.palette),
            read_png(real / "images" / f"{name}.png"),
            {arm.title: read_png(arm.images / f"{name}.png") for arm in first},
        )
        for batch in loader
        for name, label_map in zip(batch.names, batch.label_maps)
        if name in shown
    ]


def segmentation_panels(
    pictures: Sequence[Picture], segmenter: RunDirectory, embeddings: ClassEmbeddings | None, commands: CommandLog, folder: Path
) -> list[Picture]:
    """The real images of `pictures` with what each segmentation network predicts of them (the paper's Figures 7 and 8)."""
    images, runs = folder / "images", segmentation_runs(segmenter, embeddings)
    for picture in pictures:
        save_png(picture.real, images / f"{picture.name}.png")
    outputs = {head_of(run): folder / head_of(run) for run in runs}
    lines = [["seg.predict", str(run.path), str(images), "-o", str(outputs[head_of(run)])] for run in runs]
    commands.run_all(lines, "predict", total=len(lines))
    return [
        replace(picture, generated={head: read_png(output / "colour" / f"{picture.name}.png") for head, output in outputs.items()})
        for picture in pictures
    ]


def class_scores(
    arms: Sequence[Arm], segmenter: RunDirectory, embeddings: ClassEmbeddings | None, spec: DatasetSpec, num_images: int
) -> list[ClassScores]:
    """IoU of each class: of the segmentation networks on real images, and of the segmenter on every arm's images, mean over seeds."""
    networks = {head_of(run): [run.path / "evaluation.json"] for run in segmentation_runs(segmenter, embeddings)}
    of_arm: dict[str, list[Path]] = {}
    for arm in arms:
        of_arm.setdefault(arm.title, []).append(segmented_file(arm.images))
    return [
        *_class_scores("Networks on real images", "The networks of the table above, on the validation images.", networks, spec),
        *_class_scores(
            "The segmenter on each arm's images",
            f"What the segmenter finds in {num_images} generated images of the classes in their label maps; mean over seeds.",
            of_arm,
            spec,
        ),
    ]


def _class_scores(title: str, note: str, files: Mapping[str, Sequence[Path]], spec: DatasetSpec) -> list[ClassScores]:
    """One table from the evaluation files of every column; none where a file was written without the pixels of each class."""
    read = {column: [json.loads(path.read_text(encoding="utf-8")) for path in paths] for column, paths in files.items()}
    every = [figures for column in read.values() for figures in column]
    if not all("class_pixels" in figures for figures in every):
        return []
    iou = {
        column: 100
        * np.mean([[np.nan if value is None else value for value in figures["iou"].values()] for figures in column_files], axis=0)
        for column, column_files in read.items()
    }
    pixels = np.array(list(every[0]["class_pixels"].values()))
    return [ClassScores(title, note, spec.class_names, spec.palette, pixels, iou)]


def head_of(run: RunDirectory) -> str:
    """`softmax` or `embedding`."""
    return str(json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))["head"])


def versions_of(run: RunDirectory) -> dict[str, str]:
    """Libraries and revision that the comparison ran with, as written when it began or was continued."""
    about = json.loads((run.path / "environment.json").read_text(encoding="utf-8"))
    return {"python": about["python"], **about["libraries"], **({"revision": about["revision"]} if about["revision"] else {})}


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
        shares = {key: percent(figures[key]) for key in ("miou", "pixel_accuracy", "mean_accuracy", "fwiou")}
        title = "scores the images" if run is segmenter else "learned the embeddings"
        results.append(
            SegmentationResult(
                title, figures["head"], num_images=figures["images"], seconds=figures["seconds"], steps=figures["step"], **shares
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
        asked = "the encoder's features" if features == "encoder" else f"the features of {features}"
        why = "the Inception weights were not available" if features == "auto" else f"{asked} were asked for"
        notes.append(f"The distance is {network.title} and not FID, because {why}.")
    perceptual = arms[0].run.config["loss"]["perceptual"]
    if perceptual == "none":
        notes.append("Trained without a perceptual loss.")
    elif perceptual != "vgg19":
        notes.append(f"The perceptual loss has the features of {perceptual}, not of VGG-19 as published.")
    return notes
