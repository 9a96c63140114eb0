"""The embedding loss as the last layer of any segmentation network. Its public name is `seg.model.EmbeddingHead`.

Shapes: N images of H×W, C classes, D embedding size; F channels of features at h×w positions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from seg.chunks import computation_dtype
from seg.losses import class_separation, exact_cross_entropy, neighbour_cross_entropy
from seg.losses.bands import loss_in_bands
from seg.losses.cross_entropy import LOSS_IMPLEMENTATIONS
from seg.losses.temperature import LearnedTemperature
from seg.neighbours.search import require_neighbours
from seg.networks.upsampling import predict_in_bands, resize
from seg.unit_vectors import drawn_classes, nearest_class_map, unit_norm
from shared.constants import IGNORE_INDEX
from shared.errors import InputError, choose


class EmbeddingHead(nn.Module):
    """The last layer of any segmentation network, in the place of its convolution to C channels, with the class embeddings and the loss.

    Nothing in it has a number for every pixel and class, unless `impl` is "reference": the loss is that of seg.train, streamed, and the
    prediction a search.

    Args:
        in_channels: F, of the features that the convolution to C channels has read.
        num_classes: C.
        embedding_dim: D.
        temperature: τ > 0; logit = −squared distance / τ. "learned": a parameter, trained with the rest.
        margin: smallest wanted distance between two class embeddings.
        margin_weight: of the regulariser that keeps them so far apart.
        num_neighbours: k: the loss is over the target and the k nearest classes (the paper). None: over all classes.
        impl: as in `seg.losses.neighbour_cross_entropy`.
        band_rows: rows of the label map that are upsampled and compared at a time, so that no full-resolution embedding exists. None: all.
        ignore_index: label of pixels that do not count.

    Attributes:
        raw_class_embeddings: (C, D), the parameter. Only its directions count, so that weight decay of it has no meaning.

    Raises:
        InputError: a number out of its range, or an unknown implementation.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        embedding_dim: int = 12,
        *,
        temperature: float | Literal["learned"] = "learned",
        margin: float = 0.2,
        margin_weight: float = 1.0,
        num_neighbours: int | None = None,
        impl: str = "auto",
        band_rows: int | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        choose("loss implementation", impl, LOSS_IMPLEMENTATIONS)
        if num_neighbours is not None:
            require_neighbours(num_neighbours, num_classes)
        if band_rows is not None and band_rows < 1:
            raise InputError(f"band_rows is {band_rows}; it must be at least 1, or None")
        if temperature != "learned" and (isinstance(temperature, str) or not temperature > 0):
            raise InputError(f"temperature is {temperature!r}; it must be a number above 0, or 'learned'")
        self.margin, self.margin_weight, self.num_neighbours = margin, margin_weight, num_neighbours
        self.impl, self.band_rows, self.ignore_index = impl, band_rows, ignore_index
        self.temperature = LearnedTemperature() if isinstance(temperature, str) else float(temperature)
        self.project = nn.Conv2d(in_channels, embedding_dim, 1)
        self.raw_class_embeddings = drawn_classes(num_classes, embedding_dim)

    @property
    def class_embeddings(self) -> torch.Tensor:
        """(C, D) unit vectors, with gradient to `raw_class_embeddings`."""
        return unit_norm(self.raw_class_embeddings, dim=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, F, h, w) → pixel embeddings (N, D, h, w), of any norm, at the places of the features."""
        embeddings: torch.Tensor = self.project(features)
        return embeddings

    def loss(self, features: torch.Tensor, label_map: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over the pixels that are not ignored, and the regulariser.

        Args:
            features: (N, F, h, w), of any stride; they are brought to the size of the label map.
            label_map: (N, H, W) integer, ids in [0, C) or the ignore index.

        Returns:
            scalar, float64 for float64 features and else float32.

        Raises:
            InputError: a label outside [0, C).
            ValueError: shapes that do not belong together.
        """
        if label_map.ndim != 3 or len(label_map) != len(features):
            expected = f"({len(features)}, H, W)"
            raise ValueError(f"the label map has shape {tuple(label_map.shape)} beside {len(features)} images; expected {expected}")
        classes = self.class_embeddings
        if isinstance(self.temperature, LearnedTemperature):
            compared, temperature = self.temperature.sharpen(classes), 1.0
        else:
            compared, temperature = classes, self.temperature
        cross_entropy = self._cross_entropy(temperature)
        embeddings = self(features)
        # the convolution may have run in half precision; upsampling and loss do not
        embeddings = embeddings.to(computation_dtype(embeddings))
        finish = partial(unit_norm, dim=1)
        if self.band_rows is None:
            classification = cross_entropy(finish(resize(embeddings, label_map.shape[1:])), compared, label_map)
        else:
            bands: dict[str, Any] = {"rows": self.band_rows, "finish": finish, "ignore_index": self.ignore_index}
            classification = loss_in_bands(cross_entropy, embeddings, compared, label_map=label_map, **bands)
        return classification + self.margin_weight * class_separation(classes, self.margin)

    def _cross_entropy(self, temperature: float) -> Callable[..., torch.Tensor]:
        choices: dict[str, Any] = {"temperature": temperature, "impl": self.impl, "ignore_index": self.ignore_index}
        if self.num_neighbours is None:
            return partial(exact_cross_entropy, **choices)
        return partial(neighbour_cross_entropy, num_neighbours=self.num_neighbours, **choices)

    @torch.no_grad()
    def predict(self, features: torch.Tensor, size: tuple[int, ...] | torch.Size | None = None) -> torch.Tensor:
        """The nearest class of every pixel.

        Args:
            features: (N, F, h, w).
            size: (H, W) of the images; None: one class for each place of the features.

        Returns:
            (N, H, W) int64 class ids, ties to the lowest.
        """
        classify = partial(nearest_class_map, class_embeddings=self.class_embeddings)
        return predict_in_bands(classify, self(features), features.shape[2:] if size is None else size)
