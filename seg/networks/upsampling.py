"""Bilinear upsampling of the stride-4 features: whole, or in bands of output rows, so that no full-resolution output exists.

Bilinear upsampling makes every output row of two feature rows. So a band of output rows needs a few feature rows, and what becomes of a
band (its loss, see `seg.losses.bands`, or its predictions) needs no other.

Shapes: N images, F features (D of pixel embeddings, C of class scores), h×w positions of the features, H×W pixels;
r rows of a band, made of k feature rows.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F

from seg.chunks import computation_dtype, full_precision_matmul, pixels_per_chunk

Pointwise = Callable[[torch.Tensor], torch.Tensor]


class Band(NamedTuple):
    """Output rows as a linear map of the feature rows around them."""

    rows: slice
    """r rows of the output."""
    source: slice
    """k rows of the features."""
    weights: torch.Tensor
    """(r, k) float64, at most two of a row are not zero, and they add up to 1."""

    def upsample(self, features: torch.Tensor, width: int) -> torch.Tensor:
        """The feature rows `source` (N, F, k, w) → these rows of the output (N, F, r, width), float32 or better."""
        features = features.to(computation_dtype(features))
        with full_precision_matmul(features.device.type):
            columns = resize(features, (features.shape[2], width))  # columns first, as k is less than r
            return self.weights.to(features.dtype) @ columns


def bands(features: torch.Tensor, height: int, rows: int) -> Iterator[Band]:
    """The output's rows, `rows` at a time, from the first to the last of `height`; the last band may have fewer."""
    for start in range(0, height, rows):
        yield _band(features, height, start, min(start + rows, height))


def upsample_rows(features: torch.Tensor, size: tuple[int, ...] | torch.Size, start: int, stop: int) -> torch.Tensor:
    """Rows [start, stop) of `seg.networks.upsampling.resize(features, size)`, within rounding, from the few feature rows that they need.

    Args:
        features: (N, F, h, w); half precision is computed in float32.
        size: (H, W) of the whole output.
        start, stop: 0 ≤ start < stop ≤ H.

    Returns:
        (N, F, stop − start, W), float64 for float64 features and else float32.
    """
    band = _band(features, size[0], start, stop)
    return band.upsample(features[:, :, band.source], size[1])


def predict_in_bands(classify: Pointwise, features: torch.Tensor, size: tuple[int, ...] | torch.Size) -> torch.Tensor:
    """`classify(resize(features, size))`, ties within rounding aside, without the full-resolution tensor.

    Args:
        classify: outputs (N, F, r, W) → class ids (N, r, W) int64.
        features: (N, F, h, w) at stride 4.
        size: (H, W).

    Returns:
        (N, H, W) int64.
    """
    ids = torch.empty((len(features), *size), dtype=torch.int64, device=features.device)
    for rows, outputs in output_bands(features, size):
        ids[:, rows] = classify(outputs)
    return ids


def output_bands(features: torch.Tensor, size: tuple[int, ...] | torch.Size) -> Iterator[tuple[slice, torch.Tensor]]:
    """Rows of `resize(features, size)` and what stands there (N, F, r, W), as many at a time as suit the device's memory."""
    height, width = size
    rows = _prediction_rows(features, height, width)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        yield slice(start, stop), upsample_rows(features, size, start, stop)


def _prediction_rows(features: torch.Tensor, height: int, width: int) -> int:
    """As many rows as suit the device's memory, and at least those of one feature row: fewer would upsample the same columns twice."""
    pixels = pixels_per_chunk(features.shape[1], features.device)
    return max(pixels // (len(features) * width), math.ceil(height / features.shape[2]))


def _band(features: torch.Tensor, height: int, start: int, stop: int) -> Band:
    scale, last = features.shape[2] / height, features.shape[2] - 1
    top, bottom = (min(max((row + 0.5) * scale - 0.5, 0), last) for row in (start, stop - 1))
    source = slice(math.floor(top), math.ceil(bottom) + 1)
    # float64, as a weight is the small difference of two positions
    rows = torch.arange(start, stop, dtype=torch.float64, device=features.device)
    # clamped, as F.interpolate repeats the border
    positions = ((rows + 0.5) * scale - 0.5).clamp_(0, last)  # centres of the output rows, in feature rows
    taps = torch.arange(source.start, source.stop, dtype=torch.float64, device=features.device)
    return Band(slice(start, stop), source, (1 - (positions[:, None] - taps).abs()).clamp_min_(0))


def resize(x: torch.Tensor, size: tuple[int, ...] | torch.Size) -> torch.Tensor:
    """Bilinear, pixel areas aligned (`align_corners=False`)."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
