"""Vectors of new classes from the pixels of masks.

Shapes: D embedding size, B new classes, C old ones in use; p pixels kept.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from seg.losses import exact_cross_entropy
from seg.model import EmbeddingSegmenter
from seg.unit_vectors import unit_norm
from shared.constants import IGNORE_INDEX
from shared.data.loader import BatchLoader

KEPT = 2000
"""Pixels of an image and class that the refinement looks at, at most."""
RATE, TEMPERATURE = 0.02, 0.2


@dataclass(frozen=True)
class MaskedPixels:
    """What the network gives for the pixels of some masks.

    Attributes:
        sums: (B, D) float64, unit pixel embeddings of each new class, added up.
        counts: B numbers of pixels.
        embeddings: (p, D) some of the pixels, drawn evenly.
        labels: (p,) int64: old classes in use as rows 0 … C − 1, as the network sees them where the masks have no new class, and new ones
            behind.
    """

    sums: torch.Tensor
    counts: list[int]
    embeddings: torch.Tensor
    labels: torch.Tensor


@torch.no_grad()
def collect_pixels(model: EmbeddingSegmenter, loader: BatchLoader, num_new: int, device: torch.device) -> MaskedPixels:
    """Look at every image once, in memory free of their number but for `KEPT` pixels of each class in them.

    Args:
        loader: its label maps hold 0 for none of the new classes, 1 … B for these, or `IGNORE_INDEX`.
        num_new: B.
    """
    (classes,) = model.class_vectors
    sums, counts = torch.zeros(num_new, classes.shape[1], dtype=torch.float64), torch.zeros(num_new, dtype=torch.int64)
    kept, labels = [classes.new_zeros(0, classes.shape[1]).cpu()], [torch.zeros(0, dtype=torch.int64)]
    for batch in loader:
        batch = batch.to(device)
        embeddings = unit_norm(model(batch.images), dim=1)
        found = model.rows_of(model.classify(embeddings)).cpu().flatten()
        pixels, masks = embeddings.movedim(1, -1).flatten(0, -2).cpu(), batch.label_maps.cpu().flatten()
        marked = masks > 0
        sums.index_add_(0, masks[marked] - 1, pixels[marked].double())
        counts += torch.bincount(masks[marked] - 1, minlength=num_new)
        rows = torch.where(marked, masks - 1 + len(classes), torch.where(masks == IGNORE_INDEX, IGNORE_INDEX, found))
        for row in rows.unique().tolist():
            if row != IGNORE_INDEX:
                places = (rows == row).nonzero().squeeze(1)
                places = places[:: -(-len(places) // KEPT)]
                kept.append(pixels[places])
                labels.append(rows[places])
    return MaskedPixels(sums, counts.tolist(), torch.cat(kept), torch.cat(labels))


def mean_vectors(pixels: MaskedPixels) -> torch.Tensor:
    """(B, D) unit vectors: the direction of each new class's mean pixel embedding."""
    return F.normalize(pixels.sums, dim=1).float()


def refine_vectors(vectors: torch.Tensor, pixels: MaskedPixels, old: torch.Tensor, *, steps: int) -> torch.Tensor:
    """Train the new vectors alone, to be nearest to their own pixels and not to those of other classes; every class counts alike.

    Args:
        vectors: (B, D) where they begin.
        old: (C, D) unit vectors, which stay.

    Returns:
        (B, D) unit vectors.
    """
    old, embeddings = old.detach().cpu(), pixels.embeddings
    raw = vectors.clone().requires_grad_()
    counts = torch.bincount(pixels.labels, minlength=len(old) + len(vectors)).clamp_min(1)
    weights = (1 / counts).float() * counts.max()
    optimizer = torch.optim.Adam([raw], lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        classes = torch.cat([old, unit_norm(raw, dim=1)])
        exact_cross_entropy(embeddings, classes, pixels.labels, temperature=TEMPERATURE, class_weights=weights).backward()
        optimizer.step()
    return unit_norm(raw.detach(), dim=1)
