"""What a comparison report says, as data. C classes, D embedding dimension, H×W pixels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from shared.data.spec import DatasetSpec
from shared.report.class_scores import ClassScores


@dataclass(frozen=True)
class ScoreKind:
    """A column of the results.

    Attributes:
        name: as printed, "FD-seg" or "mIoU". The report never renames a score.
        explanation: one sentence: what is measured and how to read it.
        lower_is_better: direction of the arrow beside the name.
    """

    name: str
    explanation: str
    lower_is_better: bool


@dataclass(frozen=True)
class Score:
    """One measured number.

    Attributes:
        name: the `ScoreKind` it belongs to.
        value: may be non-finite; then the report says so.
        deviation: standard deviation of the estimate itself, as over the subsets of a kernel distance. It says
            nothing about training seeds. None when the score has none.
        num_real: real images (or label maps) that went in.
        num_generated: images on the other side.
    """

    name: str
    value: float
    deviation: float | None
    num_real: int
    num_generated: int


@dataclass(frozen=True)
class LossCurve:
    """The logged `values` of one loss at `steps`, equally many."""

    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class ArmRun:
    """One trained generator: an arm of the experiment (its semantics) at one seed.

    Attributes:
        scores: score name → score; a score that was not taken is left out.
        loss_curves: loss name → curve.
        seconds: wall time of the training.
        generator_parameters: number of trained values in the generator.
        peak_memory: of the training, in MiB; None where it was not logged.
    """

    semantics: str
    seed: int
    scores: Mapping[str, Score]
    loss_curves: Mapping[str, LossCurve]
    seconds: float
    steps: int
    generator_parameters: int
    run_dir: str
    peak_memory: float | None = None


@dataclass(frozen=True)
class ReferenceRow:
    """A line to read the arms against: real half against real half, label colours, the segmenter on real images."""

    name: str
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Picture:
    """One label map seen by every arm, or one image seen by every network. All images are (H, W, 3) uint8 RGB of one size.

    Attributes:
        name: of the sample.
        label_map: coloured with the palette of the data set.
        generated: arm → its image, or network → its prediction in colour; one may be missing.
    """

    name: str
    label_map: np.ndarray
    real: np.ndarray
    generated: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        for title, image in [("label map", self.label_map), ("real", self.real), *self.generated.items()]:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"picture {self.name}, {title}: expected (H, W, 3) uint8, got {image.shape} {image.dtype}")
            if image.shape != self.real.shape:
                raise ValueError(
                    f"picture {self.name}, {title}: size {image.shape[:2]} differs from the real image's {self.real.shape[:2]}"
                )


@dataclass(frozen=True)
class EmbeddingMap:
    """Class embeddings to draw: names (C), vectors (C, D), which are normalised here, and palette (C, 3) uint8."""

    class_names: Sequence[str]
    vectors: np.ndarray
    palette: np.ndarray

    def __post_init__(self) -> None:
        counts = (len(self.class_names), len(self.vectors), len(self.palette))
        if len(set(counts)) != 1:
            raise ValueError("embedding map: {} names, {} vectors and {} colours; expected as many of each".format(*counts))


@dataclass(frozen=True)
class SegmentationResult:
    """How well one segmentation network does on real validation images.

    Attributes:
        head: which output layer it has: `softmax` or `embedding`.
        miou, pixel_accuracy: in percent.
        mean_accuracy, fwiou: in percent, None where not measured.
        num_images: validation images behind the figures.
        seconds: wall time of the training.
    """

    title: str
    head: str
    miou: float
    pixel_accuracy: float
    num_images: int
    seconds: float
    steps: int
    mean_accuracy: float | None = None
    fwiou: float | None = None


@dataclass(frozen=True)
class ProtocolItem:
    """One setting that every arm shared."""

    key: str
    value: str


@dataclass(frozen=True)
class Command:
    """A command line that was run, and its wall time."""

    line: str
    seconds: float


@dataclass(frozen=True)
class ComparisonReport:
    """Everything the report prints.

    Attributes:
        dataset: its class names and palette make the legend of the label maps.
        machine: one line: device, memory, versions.
        score_kinds: columns of the results, in order.
        runs: one per semantics and seed; arms are printed in order of first appearance.
        references: floors and ceilings.
        panels: real images with what each network predicts of them.
        class_scores: tables of the IoU of each class.
        versions: library → version, and what else the results depend on.
        notes: caveats; those that follow from the numbers (one seed, unequal counts, …) are added by the report.
        baseline: the arm that paired differences are taken to.
    """

    title: str
    dataset: DatasetSpec
    created: datetime
    machine: str
    score_kinds: Sequence[ScoreKind]
    runs: Sequence[ArmRun]
    references: Sequence[ReferenceRow] = ()
    pictures: Sequence[Picture] = ()
    embedding_map: EmbeddingMap | None = None
    protocol: Sequence[ProtocolItem] = ()
    segmentation: Sequence[SegmentationResult] = ()
    panels: Sequence[Picture] = ()
    class_scores: Sequence[ClassScores] = ()
    commands: Sequence[Command] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    baseline: str = "onehot"

    def __post_init__(self) -> None:
        known = [kind.name for kind in self.score_kinds]
        rows: list[ArmRun | ReferenceRow] = [*self.runs, *self.references]
        for row in rows:
            if unknown := set(row.scores) - set(known):
                raise ValueError(f"scores without a ScoreKind: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        for (semantics, seed), count in Counter((run.semantics, run.seed) for run in self.runs).items():
            if count > 1:
                raise ValueError(f"{count} runs of {semantics} with seed {seed}; expected one per semantics and seed")

    @property
    def arms(self) -> list[str]:
        """The semantics compared, in order of first appearance."""
        return list(dict.fromkeys(run.semantics for run in self.runs))

    @property
    def seeds(self) -> list[int]:
        """All seeds used by any arm, ascending."""
        return sorted({run.seed for run in self.runs})

    @property
    def networks(self) -> list[str]:
        """The segmentation networks of the panels, in order of first appearance."""
        return list(dict.fromkeys(name for panel in self.panels for name in panel.generated))

    def runs_of(self, semantics: str) -> list[ArmRun]:
        """The runs of one arm, by seed."""
        return sorted((run for run in self.runs if run.semantics == semantics), key=lambda run: run.seed)
