"""The Fréchet distance that infinitely many images would have (Chong and Forsyth 2020, arXiv 1911.07023).

Its bias at N images is close to a constant over N, so the distances of subsets of several sizes lie on a line over 1/N, which meets
1/N = 0 in the distance without bias. Below as many images as features that is not so, and the line misleads; then there is no answer.

N images, F features.
"""

import numpy as np
import torch

from shared.fid.frechet import FeatureStatistics, covariance_root, sum_of_singular_values

SHARE = 10
"""The smallest subset is this part of the images, as published, where that is not below F."""


def fewest_images(dim: int) -> int:
    """Images that an extrapolation needs at least: subsets of F, and twice as many to see a slope."""
    return 2 * dim


def extrapolated_distance(real: FeatureStatistics, generated: FeatureStatistics, *, points: int = 15, seed: int = 0) -> float:
    """The intercept of a least-squares line through the distances of `points` subsets of the generated features over 1/n.

    As published, the real side is whole every time, so a bias of too few real images stays.

    Args:
        generated: with features, of at least `fewest_images`.
        points: subsets, whose sizes are evenly spaced up to all images.
        seed: of the subsets.
    """
    features, dim = generated.features, generated.dim
    assert features is not None and len(features) >= fewest_images(dim), "an extrapolation needs the features of enough images"
    generator = torch.Generator().manual_seed(seed)
    sizes = np.linspace(max(dim, len(features) // SHARE), len(features), points).round().astype(int)
    root, variance = covariance_root(real), real.covariance.trace().item()
    distances = []
    for size in sizes:
        subset = FeatureStatistics(dim, keep_features=False)
        subset.update(features[torch.randperm(len(features), generator=generator)[:size]])
        overlap = sum_of_singular_values(root @ covariance_root(subset).T)
        distances.append((real.mean - subset.mean).square().sum().item() + variance + subset.covariance.trace().item() - 2 * overlap)
    _, intercept = np.polyfit(1 / sizes, distances, 1)
    return float(intercept)
