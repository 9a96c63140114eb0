"""The two segmenters: pixel embeddings beside class embeddings (ESSNet), and the softmax baseline.

Shapes: N images of H×W, C classes, D embedding size; F channels of features at h×w positions.
"""

import os
from collections.abc import Sequence

import torch
from torch import nn

from seg.chunks import computation_dtype
from seg.head import EmbeddingHead as EmbeddingHead  # known to users by this module
from seg.networks.deeplab import DeepLabV3Plus
from seg.networks.smp import PREFIX, SmpNetwork
from seg.networks.upsampling import predict_in_bands, resize
from seg.unit_vectors import drawn_classes, nearest_class_map, unit_norm
from shared.backbone import LITE0, build_backbone
from shared.constants import IGNORE_INDEX
from shared.errors import InputError, choose

Network = DeepLabV3Plus | SmpNetwork


class Segmenter(nn.Module):
    """A network at stride 4, and what becomes of its features: outputs of full resolution, votes, classes. The two heads differ in that.

    Args:
        network: with F output channels.
    """

    in_use: torch.Tensor | None
    """Ids of the classes that are trained and predicted, in ascending order; None: all."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("in_use", None, persistent=False)

    def leave_out(self, class_ids: Sequence[int], num_classes: int) -> None:
        """Neither train nor predict these classes; the others keep their ids."""
        rest = sorted({*range(num_classes)} - {*class_ids})
        self.in_use = torch.tensor(rest, device=next(self.parameters()).device) if class_ids else None

    @property
    def class_vectors(self) -> tuple[torch.Tensor, ...]:
        """The class embeddings (C, D) in use, with gradient, as the one further argument of the loss; none for a head without them."""
        return ()

    def rows_of(self, label_map: torch.Tensor) -> torch.Tensor:
        """What the loss takes for labels: class ids, or, where classes are left out, rows of the `class_vectors` in use."""
        return label_map

    def forward(self, images: torch.Tensor, upsample: bool = True) -> torch.Tensor:
        """Images (N, 3, H, W) in [0, 1], any H and W → outputs (N, F, H, W).

        Without `upsample`, the stride-4 features (N, F, ⌈H/4⌉, ⌈W/4⌉) that `upsample` and `seg.networks.upsampling` take.
        """
        features = self.network(images)
        return self.upsample(features, images.shape[2:]) if upsample else features

    def upsample(self, features: torch.Tensor, size: tuple[int, ...] | torch.Size) -> torch.Tensor:
        """Stride-4 features → outputs of that (height, width), in float32 or better, as where they are upsampled in bands."""
        return self.finish(resize(features.to(computation_dtype(features)), size))

    def finish(self, outputs: torch.Tensor) -> torch.Tensor:
        """What follows the upsampling, pixel by pixel."""
        return outputs

    def classify(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs (N, F, H, W) → class ids (N, H, W) int64, ties to the lowest."""
        raise NotImplementedError

    def confidence(self, outputs: torch.Tensor, ids: torch.Tensor, *, voted: bool) -> torch.Tensor:
        """How sure a pixel is of its class, (N, H, W) from -1 to 1.

        Args:
            outputs: (N, F, H, W), or `votes` of several views, if `voted`.
            ids: (N, H, W), their classes.
        """
        raise NotImplementedError

    def votes(self, features: torch.Tensor) -> torch.Tensor:
        """Stride-4 features (N, F, h, w) → what several views of an image average, of the same shape."""
        raise NotImplementedError

    @torch.no_grad()
    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) in [0, 1] → class ids (N, H, W) int64. The mode (train or eval) is the caller's."""
        return predict_in_bands(self.classify, self(images, upsample=False), images.shape[2:])


class EmbeddingSegmenter(Segmenter):
    """A network whose output is a unit vector per pixel, beside a learned unit vector per class (ESSNet, section 3).

    Outputs have unit norm after upsampling; at most 1 where they were normalised before.

    Args:
        network: with D output channels.
        num_classes: C.
        embedding_dim: D.
        normalise: "after_upsampling" (the paper: the full-resolution output is normalised) or "before_upsampling" (the released code:
            at stride 4, so that interpolated vectors are shorter than 1).
    """

    def __init__(self, network: Network, num_classes: int, embedding_dim: int, *, normalise: str = "after_upsampling") -> None:
        super().__init__(network)
        choose("normalisation order", normalise, ("after_upsampling", "before_upsampling"))
        self.normalise = normalise
        self.raw_class_embeddings = drawn_classes(num_classes, embedding_dim)

    @property
    def class_embeddings(self) -> torch.Tensor:
        """(C, D) unit vectors, with gradient to `raw_class_embeddings`."""
        return unit_norm(self.raw_class_embeddings, dim=1)

    @property
    def class_vectors(self) -> tuple[torch.Tensor, ...]:
        return (self.class_embeddings if self.in_use is None else self.class_embeddings[self.in_use],)

    def rows_of(self, label_map: torch.Tensor) -> torch.Tensor:
        if self.in_use is None:
            return label_map
        rows = torch.full((len(self.raw_class_embeddings) + 1,), IGNORE_INDEX, device=label_map.device)
        rows[self.in_use] = torch.arange(len(self.in_use), device=label_map.device)
        return rows[label_map]  # index -1, of ignored pixels, is the last one

    @property
    def kernels(self) -> torch.Tensor:
        """(C, D) class embeddings whose largest product with a pixel embedding names its class; those left out are zero."""
        if self.in_use is None:
            return self.class_embeddings
        return torch.zeros_like(self.class_embeddings).index_copy(0, self.in_use, *self.class_vectors)

    def set_classes(self, vectors: torch.Tensor, *, trainable: bool = False) -> None:
        """Put other class vectors (C', D), of any norm but zero, in the place of its own; all of them are in use.

        Raises:
            InputError: they have another size than the pixel embeddings.
        """
        wanted = self.raw_class_embeddings.shape[1]
        if vectors.shape[1] != wanted:
            raise InputError(f"the class vectors have {vectors.shape[1]} numbers each, but the network gives pixels {wanted}")
        place = self.raw_class_embeddings.device
        self.raw_class_embeddings = nn.Parameter(vectors.detach().float().clone().to(place), requires_grad=trainable)
        self.in_use = None

    def forward(self, images: torch.Tensor, upsample: bool = True) -> torch.Tensor:
        features = self.network(images)
        if self.normalise == "before_upsampling":
            features = unit_norm(features, dim=1)
        return self.upsample(features, images.shape[2:]) if upsample else features

    def finish(self, outputs: torch.Tensor) -> torch.Tensor:
        """Unit norm; unchanged where it was normalised before the upsampling."""
        return unit_norm(outputs, dim=1) if self.normalise == "after_upsampling" else outputs

    def classify(self, outputs: torch.Tensor) -> torch.Tensor:
        """The class embedding nearest to each pixel embedding, of any norm."""
        rows = nearest_class_map(outputs, *self.class_vectors)
        return rows if self.in_use is None else self.in_use[rows]

    def confidence(self, outputs: torch.Tensor, ids: torch.Tensor, *, voted: bool) -> torch.Tensor:
        """x·μ of the pixel's direction and its class embedding: 1 less half of their squared distance."""
        vectors = self.class_embeddings[ids].movedim(-1, 1)
        return (unit_norm(outputs, dim=1) * vectors).sum(1)

    def votes(self, features: torch.Tensor) -> torch.Tensor:
        """Unit vectors."""
        # each view has the same say, however long its vectors are
        return unit_norm(features, dim=1)


class SoftmaxSegmenter(Segmenter):
    """The baseline: a network with one output channel, a logit, per class."""

    def classify(self, outputs: torch.Tensor) -> torch.Tensor:
        """The class with the largest logit."""
        return outputs.argmax(1) if self.in_use is None else self.in_use[outputs[:, self.in_use].argmax(1)]

    def confidence(self, outputs: torch.Tensor, ids: torch.Tensor, *, voted: bool) -> torch.Tensor:
        """The probability of the class among those in use."""
        scores = outputs if self.in_use is None else outputs[:, self.in_use]
        return (scores if voted else scores.softmax(1)).amax(1)

    def votes(self, features: torch.Tensor) -> torch.Tensor:
        """Probabilities."""
        return features.softmax(1)


# width and rates of the head that suit a backbone: the paper's; one for small images whose last features are a few positions wide; and one
# that takes no longer than the encoder, where the paper's width took a step half as long again and found no more (docs/recipe.md)
_HEADS: dict[str, tuple[int, tuple[int, ...]]] = {"tiny": (64, (1, 2, 4)), LITE0: (128, (6, 12, 18))}
_PAPER_HEAD = (256, (6, 12, 18))


def build_segmenter(
    *,
    head: str,
    backbone: str,
    num_classes: int,
    embedding_dim: int = 12,
    output_stride: int = 16,
    width: int | None = None,
    norm: str = "batch",
    dropout: float = 0.1,
    normalise: str = "after_upsampling",
    pretrained: bool = False,
    weights: str | os.PathLike[str] | None = None,
) -> Segmenter:
    """Build a segmenter and its encoder.

    Args:
        head: "embedding" or "softmax".
        backbone: a name that `shared.backbone.build_backbone` knows, or smp/<architecture>/<encoder>, which replaces DeepLabV3+ as well.
        output_stride, pretrained, weights, norm: as in `build_backbone`.
        num_classes: C ≥ 1.
        embedding_dim: D ≥ 1; the embedding head only.
        width, dropout: as in `DeepLabV3Plus`; without a width, 256 (128 for "efficientnet_lite0", 64 for "tiny").
        normalise: as in `EmbeddingSegmenter`.

    Raises:
        InputError: an unknown choice, or weights that are missing or do not fit.
    """
    choose("head", head, ("embedding", "softmax"))
    channels = num_classes if head == "softmax" else embedding_dim
    if backbone.startswith(PREFIX):
        if norm != "batch" or width is not None:
            raise InputError(
                f"model.backbone {backbone} has the norm and the width of its library; leave model.norm batch and model.width null"
            )
        network: Network = SmpNetwork(backbone, channels, pretrained=pretrained, weights=weights)
    else:
        default_width, rates = _HEADS.get(backbone, _PAPER_HEAD)
        encoder = build_backbone(backbone, output_stride=output_stride, pretrained=pretrained, weights=weights, norm=norm)
        network = DeepLabV3Plus(encoder, channels, width=width or default_width, rates=rates, norm=norm, dropout=dropout)
    if head == "softmax":
        return SoftmaxSegmenter(network)
    return EmbeddingSegmenter(network, num_classes, embedding_dim, normalise=normalise)
