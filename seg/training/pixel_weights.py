"""What a pixel counts in the loss: by its class (weights), or by how hard it is (online hard example mining).

The loss of every pixel is found beforehand, without gradients, in chunks whose memory does not grow with pixels × classes. What follows is
the ordinary loss of a label map in which the easier pixels are ignored, so that it works with every implementation.

Shapes: S samples, N images, F channels of an output, H×W pixels, C classes; p pixels of a chunk.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from seg.chunks import computation_dtype, full_precision_matmul, pixels_per_chunk
from seg.config import FREQUENCY_RULES, LossConfig
from seg.model import Segmenter
from seg.networks.upsampling import upsample_rows
from shared.constants import IGNORE_INDEX
from shared.data.sampling import crop_weights
from shared.data.spec import DatasetSpec
from shared.data.statistics import ClassStatistics
from shared.errors import InputError, choose
from shared.files.text_file import is_number, read_named_numbers

Logits = Callable[[torch.Tensor], torch.Tensor]
"""Outputs of pixels (p, F) → their logits (p, C)."""


def weights_by_frequency(rule: str, statistics: ClassStatistics) -> torch.Tensor:
    """(C,) float32 > 0. A common factor changes nothing, because the loss is a weighted mean.

    Args:
        rule: median_frequency (Eigen and Fergus, arXiv 1411.4734; SegNet's for CamVid) or inverse_sqrt (1 / √share of all pixels).
        statistics: counts of the training split.
    """
    weights = crop_weights(statistics) if rule == "inverse_sqrt" else median_frequency(statistics)
    return torch.from_numpy(weights).float()


def median_frequency(statistics: ClassStatistics) -> np.ndarray:
    """(C,) float64: the median of the classes' frequencies over each class's own; 1 for classes that do not occur.

    The frequency of a class is its share of the pixels of those images in which it occurs.
    """
    areas = statistics.sample_sizes.astype(np.int64).prod(1)
    around = np.zeros(len(statistics.class_names))
    np.add.at(around, statistics.class_ids, np.repeat(areas, np.diff(statistics.starts)))
    occurs = statistics.pixels > 0
    weights = np.ones(len(around))
    frequencies = statistics.pixels[occurs] / around[occurs]
    weights[occurs] = np.median(frequencies) / frequencies
    return weights


def read_class_weights(path: str | Path, spec: DatasetSpec) -> torch.Tensor:
    """(C,) float32 ≥ 0 from a csv file with a line "class name, weight" per class.

    Raises:
        InputError: a file that cannot be read, a class that is missing, unknown or there twice, or a weight that is not a number ≥ 0.
    """
    path = Path(path)
    expected = f"give loss.class_weights {', '.join(FREQUENCY_RULES)} or a csv file with lines class name, weight"
    rows = read_named_numbers(path, "class weights", expected, names=spec.class_names)
    if rows and rows[0][0] not in spec.class_names and not any(map(is_number, rows[0][1:])):
        del rows[0]  # column titles
    ids = {name: index for index, name in enumerate(spec.class_names)}
    # nan marks the classes that no line has named yet
    weights = np.full(spec.num_classes, np.nan)
    for row in rows:
        name, value = row[0], _weight(row)
        if value is None:
            raise InputError(f"{path}: line {','.join(row)!r} is not a class name and a weight of 0 or more")
        choose(f"class of {spec.name}", name, ids, where=str(path))
        if not math.isnan(weights[ids[name]]):
            raise InputError(f"{path}: {name!r} has two weights; give one")
        weights[ids[name]] = value
    missing = np.flatnonzero(np.isnan(weights))
    if len(missing):
        raise InputError(f"{path} has no weight for {spec.class_names[missing[0]]!r}; expected one for each of {spec.num_classes} classes")
    if not weights.any():
        raise InputError(f"{path} gives every class the weight 0; at least one must count")
    return torch.from_numpy(weights).float()


def _weight(row: list[str]) -> float | None:
    try:
        value = float(row[1]) if len(row) == 2 else math.nan
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def keep_hardest(label_map: torch.Tensor, losses: torch.Tensor, fraction: float) -> torch.Tensor:
    """The label map in which all but the `fraction` of valid pixels with the largest losses are ignored.

    Args:
        label_map, losses: of the same shape.
        fraction: in (0, 1]; at least one valid pixel stays. Of equal losses the first in memory stay.
    """
    valid = label_map.flatten() != IGNORE_INDEX
    count = math.ceil(fraction * int(valid.sum()))
    # ignored pixels come last, and so stay ignored
    order = losses.flatten().masked_fill(~valid, -torch.inf).argsort(descending=True, stable=True)
    kept = label_map.flatten().clone()
    kept[order[count:]] = IGNORE_INDEX
    return kept.view(label_map.shape)


@torch.no_grad()
def losses_of_pixels(
    model: Segmenter, output: torch.Tensor, label_map: torch.Tensor, config: LossConfig, temperature: float = 1.0
) -> torch.Tensor:
    """Cross-entropy over all classes of every pixel.

    Args:
        temperature: of the squared distance; `config` may say that it is learned.
        output: of the network, upsampled where there are no `band_rows`; (N, F, ·, ·).
        label_map: (N, H, W), what `Segmenter.rows_of` gives.

    Returns:
        (N, H, W) float32 ≥ 0, and 0 where the label is ignored.
    """
    classes = model.class_vectors
    logits = _class_logits(classes[0], config, temperature) if classes else _themselves
    num_classes = len(classes[0]) if classes else output.shape[1]
    height, width = label_map.shape[1:]
    rows, size = config.band_rows or height, pixels_per_chunk(num_classes, output.device)
    losses = torch.zeros(label_map.shape, device=output.device)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        outputs = output if config.band_rows is None else model.finish(upsample_rows(output, (height, width), top, bottom))
        outputs = outputs.to(computation_dtype(outputs)).flatten(2)
        for pixels, targets, found in zip(outputs, label_map[:, top:bottom].flatten(1).long(), losses[:, top:bottom]):
            parts = [
                F.cross_entropy(logits(some.T), labels, ignore_index=IGNORE_INDEX, reduction="none")
                for some, labels in zip(pixels.split(size, dim=1), targets.split(size))
            ]
            found.copy_(torch.cat(parts).view(found.shape))
    return losses


def _class_logits(class_embeddings: torch.Tensor, config: LossConfig, temperature: float) -> Logits:
    """The logits of pixel embeddings, up to a number per pixel, which no softmax sees."""
    classes = class_embeddings.detach().to(computation_dtype(class_embeddings))

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        with full_precision_matmul(pixels.device.type):
            if config.distance == "plain":
                return torch.cdist(pixels, classes).mul_(-config.scale)
            # 2x·μ − |μ|² = |x|² − |x − μ|², and |x|² is the same for all classes
            return torch.addmm(classes.square().sum(1), pixels, classes.T, beta=-1, alpha=2).div_(temperature)

    return logits


def _themselves(scores: torch.Tensor) -> torch.Tensor:
    return scores
