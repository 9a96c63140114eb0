"""The whole model: a training step of DeepLabV3+, measured beside its prediction, and the largest batch that fits a card, predicted.

The latter is the paper's Figure 1 and Table 6. Shapes: N images of H×W, C classes, D embedding size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from seg.benchmark.cases import PAPER_SETTINGS, TEMPERATURE, Case, label_map
from seg.benchmark.config import BenchmarkConfig
from seg.benchmark.heads import BAND_ROWS
from seg.config import LossConfig, ModelConfig, SegConfig, SegTrainConfig
from seg.losses import class_cross_entropy, class_separation, exact_cross_entropy
from seg.losses.bands import loss_in_bands
from seg.trained import segmenter_from
from seg.training.memory import predict_peak
from seg.training.optimiser import build_optimisers
from shared.benchmark.contest import Contestant
from shared.benchmark.isolation import GIB
from shared.benchmark.report import Grid, three_digits

VARIANTS: dict[str, tuple[Literal["softmax", "embedding"], int | None]] = {
    "softmax": ("softmax", None),
    "softmax in bands": ("softmax", BAND_ROWS),
    "exact": ("embedding", None),
    "exact in bands": ("embedding", BAND_ROWS),
}
"""Head and rows of a band, by the name of the contestant."""


Network = Literal["tiny", "efficientnet_lite0", "resnet50"]


def variant_config(name: str, backbone: Network, dim: int) -> SegConfig:
    """Settings of seg.train for one of the `VARIANTS`."""
    head, rows = VARIANTS[name]
    config = SegConfig()
    config.head, config.loss, config.model = head, LossConfig(band_rows=rows), ModelConfig(backbone=backbone, embedding_dim=dim)
    config.train = SegTrainConfig(optimizer="sgd", learning_rate=1e-3, class_turn=None)
    return config


def step_contestants(case: Case) -> list[Contestant]:
    """Forward, loss, backward and update: both heads, at once and in bands. ResNet50 on a GPU, the tiny network on a CPU."""
    backbone: Network = "resnet50" if case.device == "cuda" else "tiny"

    def contestant(name: str) -> Contestant:
        config = variant_config(name, backbone, case.dim)
        return Contestant(name, lambda: TrainingStep(case, config), predict_peak=lambda: predicted_growth(case, config))

    return [contestant(name) for name in VARIANTS]


def predicted_growth(case: Case, config: SegConfig) -> int:
    """Predicted peak of a step, in bytes above what there is before: weights, momentum and a batch."""
    sizes = {"batch_size": case.images, "height": case.height, "width": case.width}
    peak = predict_peak(config, case.classes, **sizes, device_type=case.device).peak
    with torch.device("meta"):
        model = segmenter_from(config.head, case.classes, config.model)
    weights = sum(2 * tensor.nbytes for tensor in model.parameters()) + sum(tensor.nbytes for tensor in model.buffers())
    return peak - weights - case.pixels * (3 * 4 + 8)


class TrainingStep:
    """A network with its momentum, and a batch, that make one training step when called."""

    def __init__(self, case: Case, config: SegConfig) -> None:
        generator = torch.Generator().manual_seed(case.seed)
        torch.manual_seed(case.seed)
        self.model = segmenter_from(config.head, case.classes, config.model).to(case.device).train()
        self.optimizer = build_optimisers(self.model, config.train)["optimizer"]
        self.images = torch.randn(case.images, 3, case.height, case.width, generator=generator).to(case.device)
        self.labels = label_map(case, generator).to(case.device)
        self.rows = config.loss.band_rows
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()  # makes the momentum
        self.optimizer.zero_grad()

    def __call__(self) -> torch.Tensor:
        loss = self.loss(self.model(self.images, upsample=self.rows is None))  # as in seg.train, no name keeps the output
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def loss(self, outputs: torch.Tensor) -> torch.Tensor:
        """The terms of seg.train's loss, at once or in bands."""
        classes = self.model.class_vectors
        loss: Callable[..., torch.Tensor] = partial(exact_cross_entropy, temperature=TEMPERATURE) if classes else class_cross_entropy
        if self.rows is None:
            value = loss(outputs, *classes, self.labels)
        else:
            value = loss_in_bands(loss, outputs, *classes, label_map=self.labels, rows=self.rows, finish=self.model.finish)
        return value + sum(class_separation(embeddings) for embeddings in classes)


BACKBONE: Network = "resnet50"
FIGURE_1 = "figure 1"
FIGURE_SIZE = 512


@dataclass(frozen=True)
class BatchSetting:
    """One network of the paper at one image size.

    Attributes:
        title: a row of Table 1, or `FIGURE_1`.
        batches: images that the paper trains with, of softmax and of embeddings; None in Figure 1.
        others: as in `Case`.
    """

    title: str
    classes: int
    height: int
    width: int
    dim: int
    batches: tuple[int, int] | None


@dataclass(frozen=True)
class LargestBatch:
    """What one variant of the network needs on a GPU.

    Attributes:
        largest: images of the largest batch that fits the card.
        peak: bytes with the paper's batch; None in Figure 1.
    """

    setting: BatchSetting
    variant: str
    largest: int
    peak: int | None


def batch_settings(config: BenchmarkConfig) -> list[BatchSetting]:
    """Rows of Table 1, then Figure 1: images of 512×512 and every number of classes."""
    rows = {name: PAPER_SETTINGS[name] for name in config.settings}
    table = [BatchSetting(name, s.classes, s.height, s.width, s.dim, (s.softmax_batch, s.batch)) for name, s in rows.items()]
    return table + [BatchSetting(FIGURE_1, count, FIGURE_SIZE, FIGURE_SIZE, config.dim, None) for count in config.classes]


def largest_batches(setting: BatchSetting, card: float, backbone: Network = BACKBONE) -> Iterator[LargestBatch]:
    """Predict every variant of the network.

    Args:
        card: GiB that all tensors together may take. The context and the workspaces of the GPU's libraries come on top.
    """
    for name in VARIANTS:
        config = variant_config(name, backbone, setting.dim)
        batch = 1 if setting.batches is None else setting.batches[config.head != "softmax"]
        prediction = predict_peak(config, setting.classes, batch_size=batch, height=setting.height, width=setting.width, device_type="cuda")
        peak = None if setting.batches is None else prediction.peak
        yield LargestBatch(setting, name, prediction.largest_batch(int(card * GIB)), peak)


def batch_table(found: list[LargestBatch]) -> Grid:
    """A row per setting: for every variant the largest batch and, in brackets, GiB with the paper's batch."""
    columns = ["", "C", "image", "paper's batches", *VARIANTS, "note"]
    rows = []
    for setting in dict.fromkeys(line.setting for line in found):
        lines = {line.variant: line for line in found if line.setting == setting}
        cells = [f"{line.largest}" + ("" if line.peak is None else f" ({three_digits(line.peak / GIB)} GiB)") for line in lines.values()]
        batches = "" if setting.batches is None else " / ".join(map(str, setting.batches))
        rows.append([setting.title, str(setting.classes), f"{setting.height}×{setting.width}", batches, *cells, ""])
    return Grid(columns, rows)
