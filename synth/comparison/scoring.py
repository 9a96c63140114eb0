"""Scores of generated images: distances to real ones in a feature network, and what a segmenter finds in them."""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from shared.data.class_lists import read_class_names
from shared.data.loader import BatchLoader
from shared.data.spec import DatasetSpec
from shared.encoder_file import ENCODER_FILE, softmax_runs
from shared.errors import InputError
from shared.fid import FeatureStatistics, frechet_distance, kernel_distance
from shared.fid.comparison import real_floor
from shared.fid.diversity import PairDistance, build_pair_distance, diversity
from shared.fid.features import FeatureNetwork, build_feature_network
from shared.fid.folder import image_statistics
from shared.files.json_file import write_json
from shared.report import ReferenceRow, Score, ScoreKind
from shared.run.directory import RunDirectory
from shared.run.training import require_same_classes
from shared.visualise import SIGNED, colour_label_map, label_storage, read_png, save_label_png, save_png, to_uint8
from synth.comparison.commands import CommandLog
from synth.comparison.config import CompareConfig

CLASSES_FILE = "classes.json"
MIOU, ACCURACY, FWIOU = "mIoU", "PAcc", "FwIoU"


def find_segmenter(path: str | None, spec: DatasetSpec) -> RunDirectory:
    """The run given, or the newest finished `seg.train --head softmax` on the same data.

    Its network was trained with plain cross-entropy, never on the embeddings that are compared here.

    Raises:
        InputError: the run has no exported encoder; or there is none.
    """
    if path is not None:
        run = RunDirectory.open(path)
        if not (run.path / ENCODER_FILE).is_file():
            raise InputError(f"{path} has no {ENCODER_FILE}; finish that run, or write it with python -m seg.export {path}")
        return run
    newest = next((run for run in softmax_runs(spec.name) if _classes_of(run) == spec.class_names), None)
    if newest is None:
        raise InputError(
            f"no finished softmax segmenter of {spec.name} under runs/seg.train, which scores the images; "
            f"run `python -m seg.train --head softmax` with the same data settings first, or give --segmenter RUN"
        )
    return newest


def _classes_of(run: RunDirectory) -> tuple[str, ...]:
    """Names of the classes that a finished run was evaluated on."""
    return tuple(json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))["iou"])


def score_kinds(networks: Sequence[FeatureNetwork], pair_distance: PairDistance | None, size: Sequence[int]) -> list[ScoreKind]:
    """The columns of the report; `size` is (height, width) of the images in pixels."""
    at = f"of the segmenter's prediction on the images, at {size[0]} × {size[1]} pixels,"
    kinds = []
    for network in networks:
        kernel = "Kernel distance (unbiased squared MMD) in the same features, ± over random subsets."
        kinds.append(ScoreKind(network.title, f"Fréchet distance between real and generated images. {network.description}", True))
        kinds.append(ScoreKind(network.kernel_title, kernel, True))
    kinds += [
        ScoreKind(MIOU, f"Mean IoU, in percent, {at} against the label maps they were made from.", False),
        ScoreKind(ACCURACY, "Pixel accuracy, in percent, of the same prediction.", False),
        ScoreKind(FWIOU, "Mean IoU weighted by how frequent each class is, in percent, of the same prediction.", False),
    ]
    return (
        kinds if pair_distance is None else [*kinds, ScoreKind(pair_distance.title, f"{pair_distance.explanation} ± over layouts.", False)]
    )


def feature_networks(config: CompareConfig, segmenter: RunDirectory, device: torch.device) -> list[FeatureNetwork]:
    """The networks in whose features the arms are compared: the one that the settings name, then the segmenter's encoder.

    Raises:
        InputError: the weights of the network that was asked for are not available.
    """
    path = segmenter.path / ENCODER_FILE
    named = build_feature_network(config.features, weights=config.weights, encoder=path, device=device)
    encoder = named if config.features == "encoder" else build_feature_network(str(path), device=device)
    return [named] if named.title == encoder.title else [named, encoder]


def pair_distance_for(config: CompareConfig, segmenter: RunDirectory, device: torch.device) -> PairDistance | None:
    """What measures the diversity of the images of one layout; None for generators that make one only."""
    several = config.generator.style_dim is not None or config.generator.noise_channels > 0
    return build_pair_distance(segmenter.path / ENCODER_FILE, device) if several else None


def diversity_score(distance: PairDistance, layouts: Iterable[torch.Tensor]) -> dict[str, Score]:
    """Of the images of every layout, (K, 3, H, W) uint8 each; its counts are layouts and images."""
    found = diversity(layouts, distance)
    return {found.title: Score(found.title, found.value, found.deviation, found.layouts, found.layouts * found.samples)}


def require_classes_of_before(real: Path, spec: DatasetSpec) -> None:
    """Refuse to continue a comparison with other classes than it began with, or with the same in another order.

    Args:
        real: folder that `write_real` wrote, if the comparison has begun.
    """
    path = real / CLASSES_FILE
    if path.is_file():
        require_same_classes(read_class_names(path, "give another --run_dir"), spec.class_names, str(path))


def write_real(folder: Path, loader: BatchLoader, spec: DatasetSpec) -> list[str]:
    """Write images/, labels/ and classes.json, a folder data set of what the arms are compared with. Returns the sample names."""
    names: list[str] = []
    for batch in loader:
        for name, picture, label_map in zip(batch.names, to_uint8(batch.images, value_range=SIGNED), batch.label_maps):
            save_png(picture, folder / "images" / f"{name}.png")
            save_label_png(label_map, folder / "labels" / f"{name}.png", num_classes=spec.num_classes)
            names.append(name)
    write_json(folder / CLASSES_FILE, spec.class_names)
    return names


class Scorer:
    """Scores folders of images against the real images and label maps of one data set.

    Args:
        segmenter: a run of seg.train; `python -m seg.evaluate` is called on it.
        real: folder that `write_real` wrote.
        names: the samples, in order.
        num_workers: processes that read images for the segmenter.
    """

    def __init__(
        self,
        networks: Sequence[FeatureNetwork],
        segmenter: RunDirectory,
        commands: CommandLog,
        real: Path,
        names: list[str],
        spec: DatasetSpec,
        num_workers: int,
    ) -> None:
        self.networks, self.segmenter, self.commands, self.num_workers = networks, segmenter, commands, num_workers
        self.real, self.names, self.spec = real, names, spec
        self.real_statistics = self._statistics(lambda: map(read_png, self._files(real / "images")), "of real images")

    def segment(self, folders: list[Path]) -> None:
        """Let the segmenter predict the images of these folders and of the real ones, where that was not done before."""
        commands = [self._segment_command(folder) for folder in [*folders, self.real / "images"]]
        self.commands.run_all(commands, "segment", total=len(commands))

    def score_folder(self, folder: Path) -> dict[str, Score]:
        """Distances to the real images, and what the segmenter found of the label maps (after `segment`)."""
        statistics = self._statistics(lambda: map(read_png, self._files(folder)), f"of {folder.parent.name}")
        return self._distances(statistics) | self._segmented(folder)

    def references(self, train_loader: BatchLoader, val_loader: BatchLoader) -> list[ReferenceRow]:
        """What to read the arms against: other real images, halves of the real ones, those themselves, and the coloured label maps."""
        others = self._statistics(lambda: self._training_pictures(train_loader), "of training images")
        label_colours = self._statistics(lambda: self._label_colours(val_loader), "of label colours")
        return [
            ReferenceRow("real training images", self._distances(others)),
            *self._floor(),
            ReferenceRow("the real images themselves", self._segmented(self.real / "images")),
            ReferenceRow("label maps in colour", self._distances(label_colours)),
        ]

    def _files(self, folder: Path) -> list[Path]:
        return [folder / f"{name}.png" for name in self.names]

    def _training_pictures(self, loader: BatchLoader) -> Iterator[np.ndarray]:
        """As many training images as there are validation images, at most."""
        left = len(self.names)
        for batch in loader:
            yield from to_uint8(batch.images[:left], value_range=SIGNED)
            left -= len(batch.names)
            if left <= 0:
                return

    def _label_colours(self, loader: BatchLoader) -> Iterator[np.ndarray]:
        for batch in loader:
            yield from colour_label_map(batch.label_maps, self.spec.palette)

    def _statistics(self, pictures: Callable[[], Iterable[np.ndarray]], title: str) -> list[FeatureStatistics]:
        """In the features of every network; each reads the pictures anew, which do not fit into memory for any number of them."""
        return [
            image_statistics(
                network,
                (torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures()),
                total=len(self.names),
                title=f"{network.title} {title}",
            )
            for network in self.networks
        ]

    def _distances(self, others: Sequence[FeatureStatistics]) -> dict[str, Score]:
        scores: dict[str, Score] = {}
        for network, real, other in zip(self.networks, self.real_statistics, others):
            assert real.features is not None and other.features is not None and real.count is not None and other.count is not None
            mean, deviation = kernel_distance(real.features, other.features, num_subsets=100, seed=0)
            counts = (real.count, other.count)
            scores[network.title] = Score(network.title, frechet_distance(real, other), None, *counts)
            scores[network.kernel_title] = Score(network.kernel_title, mean, deviation, *counts)
        return scores

    def _floor(self) -> list[ReferenceRow]:
        """Nothing where there are too few real images for two halves."""
        scores: dict[str, Score] = {}
        for network, real in zip(self.networks, self.real_statistics):
            floor = real_floor(real)
            if floor is not None:
                scores[network.title] = Score(network.title, floor.distance, None, floor.count, floor.count)
                scores[network.kernel_title] = Score(
                    network.kernel_title, floor.kernel_distance, floor.kernel_deviation, floor.count, floor.count
                )
        return [ReferenceRow("one half of the real images against the other", scores)] if scores else []

    def _segment_command(self, images: Path) -> list[str]:
        data = {
            "name": "folder",
            "root": str(self.real),
            "folder.name": self.spec.name,
            "folder.val_images": os.path.relpath(images, self.real),
            "folder.val_labels": "labels",
            "folder.class_names": CLASSES_FILE,
            "folder.label_offset": "0",
            "folder.ignore_value": str(label_storage(self.spec.num_classes)[1]),
            "num_workers": str(self.num_workers),
        }
        options = [part for key, value in data.items() for part in (f"--data.{key}", value)]
        return ["seg.evaluate", str(self.segmenter.path), *options, "--json", str(segmented_file(images))]

    def _segmented(self, images: Path) -> dict[str, Score]:
        figures, count = json.loads(segmented_file(images).read_text(encoding="utf-8")), len(self.names)
        kinds = {MIOU: "miou", ACCURACY: "pixel_accuracy", FWIOU: "fwiou"}
        return {kind: Score(kind, percent(figures[name]), None, count, count) for kind, name in kinds.items()}


def percent(share: float | None) -> float:
    """A share of an evaluation, where null stands for NaN."""
    return math.nan if share is None else 100 * share


def segmented_file(images: Path) -> Path:
    """Where `Scorer.segment` puts the figures of a folder of images."""
    return images.parent / f"segmented_{images.name}.json"
