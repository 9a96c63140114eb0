"""How far two sets of features cover each other: precision, recall, density, coverage.

Each set's manifold is the union of balls around its features, each reaching to the feature's k-th nearest neighbour in the set.
Precision and recall: Kynkäänniemi et al. 2019, arXiv 1904.06991. Density and coverage, which one outlier cannot inflate: Naeem et al. 2020,
arXiv 2002.09797, Eq. 4 and 5.

N, M images, F features.
"""

from typing import NamedTuple

import torch

from shared.errors import InputError

BLOCK_ELEMENTS = 2**24  # of a block of distances, so that memory does not grow with N·M


class ManifoldScores(NamedTuple):
    """All are 1 at best, and density may be above it.

    Attributes:
        precision: share of the generated that lie on the real manifold.
        recall: share of the real that lie on the generated manifold.
        density: mean number of real balls that a generated feature lies in, over k; 1 for equal distributions.
        coverage: share of the real whose ball holds a generated feature.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_scores(real: torch.Tensor, generated: torch.Tensor, *, neighbours: int = 5) -> ManifoldScores:
    """Precision, recall, density and coverage of generated features.

    Args:
        real: (N, F) float, any device.
        generated: (M, F).
        neighbours: k, the neighbour that a ball reaches to.

    Raises:
        InputError: other number of features, or a set of no more than k.
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        shapes = f"{tuple(real.shape)} and {tuple(generated.shape)}"
        raise InputError(f"features have shapes {shapes}; (images, features) with equally many features were expected")
    if neighbours < 1 or min(len(real), len(generated)) <= neighbours:
        raise InputError(f"{neighbours} neighbours do not fit sets of {len(real)} and {len(generated)} images; give 1 or more, below both")
    # float64, as cdist goes by products, in which near features would lose their distance
    real, generated = real.double(), generated.double()
    real_radii, generated_radii = _radii(real, neighbours), _radii(generated, neighbours)
    on_real, balls = 0, 0
    on_generated = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    nearest = torch.full_like(real_radii, torch.inf)
    rows = _block_rows(len(real))
    for block, radii in zip(generated.split(rows), generated_radii.split(rows)):
        distances = torch.cdist(block, real)
        inside = distances <= real_radii
        on_real += int(inside.any(1).sum())
        balls += int(inside.sum())
        on_generated |= (distances <= radii[:, None]).any(0)
        nearest = torch.minimum(nearest, distances.amin(0))
    count = len(generated)
    recall, coverage = (float(share.double().mean()) for share in (on_generated, nearest <= real_radii))
    return ManifoldScores(on_real / count, recall, balls / (neighbours * count), coverage)


def _radii(features: torch.Tensor, neighbours: int) -> torch.Tensor:
    """(N,) distance of each feature to its k-th nearest other one; the nearest of all is itself."""
    blocks = features.split(_block_rows(len(features)))
    return torch.cat([torch.cdist(block, features).kthvalue(neighbours + 1).values for block in blocks])


def _block_rows(columns: int) -> int:
    return max(BLOCK_ELEMENTS // columns, 1)
