"""The contestants of the whole model: one training step of DeepLabV3+, measured beside its prediction.

Shapes: N images of H×W, C classes, D embedding size.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch

from seg.bands import loss_in_bands
from seg.benchmark.cases import TEMPERATURE, Case, label_map
from seg.benchmark.heads import BAND_ROWS
from seg.checkpoints import segmenter_from
from seg.config import LossConfig, ModelConfig, SegConfig
from seg.losses import class_cross_entropy, class_separation, exact_cross_entropy
from seg.memory import predict_peak
from seg.model import EmbeddingSegmenter
from seg.optimiser import build_optimiser
from shared.benchmark.contest import Contestant

VARIANTS: dict[str, tuple[Literal["softmax", "embedding"], int | None]] = {
    "softmax": ("softmax", None),
    "softmax in bands": ("softmax", BAND_ROWS),
    "exact": ("embedding", None),
    "exact in bands": ("embedding", BAND_ROWS),
}
"""Head and rows of a band, by the name of the contestant."""


Network = Literal["tiny", "resnet50"]


def variant_config(name: str, backbone: Network, dim: int) -> SegConfig:
    """Settings of seg.train for one of the `VARIANTS`."""
    head, rows = VARIANTS[name]
    config = SegConfig()
    config.head, config.loss, config.model = head, LossConfig(band_rows=rows), ModelConfig(backbone=backbone, embedding_dim=dim)
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
        self.optimizer = build_optimiser(self.model, lr=1e-3)
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
        classes = (self.model.class_embeddings,) if isinstance(self.model, EmbeddingSegmenter) else ()
        loss: Callable[..., torch.Tensor] = partial(exact_cross_entropy, temperature=TEMPERATURE) if classes else class_cross_entropy
        if self.rows is None:
            value = loss(outputs, *classes, self.labels)
        else:
            value = loss_in_bands(loss, outputs, *classes, label_map=self.labels, rows=self.rows, finish=self.model.finish)
        return value + sum(class_separation(embeddings) for embeddings in classes)
