"""The contestants of the head: from the decoder's features at stride 4 to the loss and back, or to class ids.

Shapes: N images of H×W, F features at h×w positions, C classes, D embedding size, K neighbours.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from seg.benchmark.cases import STRIDE, TEMPERATURE, Case, make_inputs
from seg.losses import class_cross_entropy, exact_cross_entropy, neighbour_cross_entropy
from seg.losses.bands import loss_in_bands
from seg.networks.upsampling import predict_in_bands, resize
from seg.unit_vectors import nearest_class_map, unit_norm
from shared.benchmark.ceilings import Work
from shared.benchmark.contest import Contestant

FEATURES = 256  # channels of DeepLabV3+'s decoder
BAND_ROWS = 8
SOFTMAX, EXACT, NEIGHBOURS, IN_BANDS = "softmax", "exact", "neighbours", " in bands"


class HeadInputs(NamedTuple):
    """features (N, F, h, w), kernel (K, F, 1, 1) with K = C or D, class embeddings (C, D) or none, labels (N, H, W)."""

    features: torch.Tensor
    kernel: torch.Tensor
    classes: tuple[torch.Tensor, ...]
    labels: torch.Tensor

    @property
    def size(self) -> torch.Size:
        """(H, W)"""
        return self.labels.shape[1:]


def head_inputs(case: Case, softmax: bool) -> HeadInputs:
    """Random features and kernel; labels and class embeddings as for the losses."""
    _, classes, labels = make_inputs(case)
    generator = torch.Generator().manual_seed(case.seed)
    height, width = (-(-side // STRIDE) for side in labels.shape[1:])
    features = torch.randn(case.images, FEATURES, height, width, generator=generator)
    kernel = torch.randn(case.classes if softmax else case.dim, FEATURES, 1, 1, generator=generator) / FEATURES**0.5
    features, kernel = (tensor.to(case.device).requires_grad_() for tensor in (features, kernel))
    return HeadInputs(features, kernel, () if softmax else (classes,), labels)


def training_contestants(case: Case) -> list[Contestant]:
    """1×1 convolution, upsampling, loss and all gradients: softmax, and pixel embeddings with either loss; at once or in bands of rows."""
    neighbours = partial(neighbour_cross_entropy, num_neighbours=min(case.neighbours, case.classes), temperature=TEMPERATURE)
    exact = partial(exact_cross_entropy, temperature=TEMPERATURE)
    losses: dict[str, Callable[..., torch.Tensor]] = {SOFTMAX: class_cross_entropy, EXACT: exact, NEIGHBOURS: neighbours}
    found = []
    for name, loss in losses.items():
        inputs = cache(partial(head_inputs, case, name == SOFTMAX))
        peak = logits_bytes(case, 3 + 1 / 8) if name == SOFTMAX else None  # softmax, its gradient, that of the logits; twice at stride 4
        work = training_work(case, name)
        found.append(_contestant(name, train_at_once, loss, inputs, work, peak))
        found.append(_contestant(name + IN_BANDS, train_in_bands, loss, inputs, work))
    return found


def inference_contestants(case: Case) -> list[Contestant]:
    """1×1 convolution, upsampling and the class of every pixel. Embeddings need no normalisation there."""
    found = []
    for name in (SOFTMAX, EXACT):
        inputs = cache(partial(head_inputs, case, name == SOFTMAX))
        classify = (lambda logits: logits.argmax(1)) if name == SOFTMAX else nearest_class_map
        peak = logits_bytes(case, 1 + 1 / 16) if name == SOFTMAX else None
        title = SOFTMAX if name == SOFTMAX else "embeddings"
        found.append(_contestant(title, infer_at_once, classify, inputs, inference_work(case, name), peak))
        found.append(_contestant(title + IN_BANDS, infer_in_bands, classify, inputs, inference_work(case, name)))
    return found


def _contestant(
    name: str,
    step: Callable[..., Any],
    function: Callable[..., Any],
    inputs: Callable[[], HeadInputs],
    work: Work,
    predict_peak: Callable[[], int] | None = None,
) -> Contestant:
    return Contestant(name, lambda: partial(step, function, inputs()), work, predict_peak=predict_peak)


def logits_bytes(case: Case, times: float) -> Callable[[], int]:
    """Gives the bytes of so many full-resolution float32 logits."""
    return lambda: int(4 * case.pixels * case.classes * times)


def finish_of(inputs: HeadInputs) -> Callable[[torch.Tensor], torch.Tensor]:
    """What follows the upsampling in training: unit norm of pixel embeddings, nothing for logits."""
    return partial(unit_norm, dim=1) if inputs.classes else lambda logits: logits


def train_at_once(loss: Callable[..., torch.Tensor], inputs: HeadInputs) -> tuple[torch.Tensor, ...]:
    """Loss and gradients through the full-resolution output, which no name keeps beyond the loss."""

    def outputs() -> torch.Tensor:
        return finish_of(inputs)(resize(F.conv2d(inputs.features, inputs.kernel), inputs.size))

    return _with_gradients(loss(outputs(), *inputs.classes, inputs.labels), inputs)


def train_in_bands(loss: Callable[..., torch.Tensor], inputs: HeadInputs) -> tuple[torch.Tensor, ...]:
    """The same without the full-resolution output."""
    outputs = F.conv2d(inputs.features, inputs.kernel)
    value = loss_in_bands(loss, outputs, *inputs.classes, label_map=inputs.labels, rows=BAND_ROWS, finish=finish_of(inputs))
    return _with_gradients(value, inputs)


def _with_gradients(value: torch.Tensor, inputs: HeadInputs) -> tuple[torch.Tensor, ...]:
    return value, *torch.autograd.grad(value, (inputs.features, inputs.kernel, *inputs.classes))


@torch.no_grad()
def infer_at_once(classify: Callable[..., torch.Tensor], inputs: HeadInputs) -> torch.Tensor:
    """Class ids (N, H, W) through the full-resolution output."""
    return classify(resize(F.conv2d(inputs.features, inputs.kernel), inputs.size), *inputs.classes)


@torch.no_grad()
def infer_in_bands(classify: Callable[..., torch.Tensor], inputs: HeadInputs) -> torch.Tensor:
    """The same without the full-resolution output."""
    return predict_in_bands(lambda band: classify(band, *inputs.classes), F.conv2d(inputs.features, inputs.kernel), inputs.size)


def training_work(case: Case, name: str) -> Work:
    """Three products of the convolution and those of the loss; features read, their gradients written, labels of 8 bytes read."""
    positions = case.pixels / STRIDE**2
    channels = case.classes if name == SOFTMAX else case.dim
    products = {SOFTMAX: 0, EXACT: 3, NEIGHBOURS: 1}[name]
    flops = 6 * positions * FEATURES * channels + 2 * products * case.pixels * case.classes * case.dim
    exponentials = 0 if name == NEIGHBOURS else case.pixels * case.classes
    return Work(2 * 4 * FEATURES * positions + 8 * case.pixels, flops, exponentials)


def inference_work(case: Case, name: str) -> Work:
    """The product of the convolution and that of the search; features read, ids of 8 bytes written."""
    positions = case.pixels / STRIDE**2
    channels = case.classes if name == SOFTMAX else case.dim
    search = 0 if name == SOFTMAX else 2 * case.pixels * case.classes * case.dim
    return Work(4 * FEATURES * positions + 8 * case.pixels, 2 * positions * FEATURES * channels + search)
