"""A training step of a network from elsewhere, with the last layer that it comes with and with `EmbeddingHead` in its place.

The network is torchvision's DeepLabV3 with ResNet50. Shapes: N images of H×W, C classes, D embedding size.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from seg.benchmark.cases import TEMPERATURE, Case, label_map
from seg.benchmark.heads import BAND_ROWS, logits_bytes
from seg.head import EmbeddingHead
from shared.benchmark.contest import Contestant
from shared.constants import IGNORE_INDEX

BEFORE = "class scores"
AFTER: dict[str, int | None] = {"EmbeddingHead": None, "EmbeddingHead in bands": BAND_ROWS}
"""Rows of a band, by the name of the contestant."""


def swap_contestants(case: Case) -> list[Contestant]:
    """Forward, loss, backward and update before and after the swap; the rest of the network is the same."""
    # the scores, their softmax and the gradient of both
    before = Contestant(BEFORE, partial(SwapStep, case, BEFORE), predict_peak=logits_bytes(case, 3))
    return [before, *(Contestant(name, partial(SwapStep, case, name)) for name in AFTER)]


class SwapStep:
    """The network with its momentum, and a batch, that make one training step when called."""

    def __init__(self, case: Case, name: str) -> None:
        from torchvision.models.segmentation import deeplabv3_resnet50

        # statistics over a batch of one are refused where the pooled image has one place
        case = replace(case, images=max(case.images, 2))
        generator = torch.Generator().manual_seed(case.seed)
        torch.manual_seed(case.seed)
        network = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=case.classes, aux_loss=False)
        *layers, last = network.classifier
        self.backbone, self.classifier = network.backbone, nn.Sequential(*layers)
        if name in AFTER:
            last = EmbeddingHead(last.in_channels, case.classes, case.dim, temperature=TEMPERATURE, band_rows=AFTER[name])
        self.network = nn.ModuleList([self.backbone, self.classifier, last]).to(case.device).train()
        self.loss: Callable[..., torch.Tensor] = last.loss if name in AFTER else partial(loss_of_scores, last)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-3, momentum=0.9)
        self.images = torch.randn(case.images, 3, case.height, case.width, generator=generator).to(case.device)
        self.labels = label_map(case, generator).to(case.device)
        for parameter in self.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()  # makes the momentum
        self.optimizer.zero_grad()

    def __call__(self) -> torch.Tensor:
        loss = self.loss(self.classifier(self.backbone(self.images)["out"]), self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def loss_of_scores(layer: nn.Module, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """As torchvision's reference training has it: scores (N, C, H, W) of full resolution, and their cross-entropy."""
    scores = F.interpolate(layer(features), size=labels.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(scores, labels, ignore_index=IGNORE_INDEX)
