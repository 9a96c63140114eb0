"""Two sets of images compared: every measure, also extrapolated to infinitely many images, as lines and JSON."""

from dataclasses import dataclass

import numpy as np
import torch

from shared.fid.features import titles
from shared.fid.frechet import FeatureStatistics, covariance_root, frechet_distance, sum_of_singular_values
from shared.fid.kernel import kernel_distance
from shared.fid.manifold import manifold_scores

NEIGHBOURS = 5
"""Balls of precision, recall, density and coverage reach to this neighbour, as in Naeem et al. 2020."""


SHARE = 10
"""The smallest subset is this part of the images, as published, where that is not below F."""


@dataclass(frozen=True)
class Floor:
    """One random half of the real images against the other: what the distances are where nothing differs, at so few images.

    Attributes:
        count: images of each half.
    """

    distance: float
    kernel_distance: float
    kernel_deviation: float
    count: int


@dataclass(frozen=True)
class Comparison:
    """Two sets compared. What needs features is None where a side has none, and what needs more images where there are too few.

    Attributes:
        title, kernel_title: what the distances are called, "FID" and "KID" with Inception features only.
        infinite_distance: the distance extrapolated to infinitely many generated images.
        manifold: precision, recall, density, coverage.
        network, weights, resize: what the features come from.
        dim: F.
        count_real, count_generated: N of both sides, None where a file does not tell.
    """

    title: str
    distance: float
    kernel_title: str
    kernel_distance: float | None
    kernel_deviation: float | None
    infinite_distance: float | None
    manifold: dict[str, float] | None
    floor: Floor | None
    network: str
    weights: str
    resize: str
    dim: int
    count_real: int | None
    count_generated: int | None

    def lines(self) -> list[str]:
        """The comparison for a reader."""
        counts = [count if count is not None else "not recorded" for count in (self.count_real, self.count_generated)]
        about = f"{self.network}, D={self.dim}, N={counts[0]}/{counts[1]}"
        lines = [f"{self.title} ({about}): {self.distance:.4f}"]
        if self.kernel_distance is None:
            lines.append(f"{self.kernel_title}: needs the features of both sides, which are not there")
        else:
            lines.append(f"{self.kernel_title} ({about}): {self.kernel_distance:.6f} ± {self.kernel_deviation:.6f}")
            lines.append(f"{self.title}∞ (at infinitely many generated images): {self._extrapolation()}")
        if self.manifold is not None:
            lines.append(", ".join(f"{name} {value:.3f}" for name, value in self.manifold.items()) + f" (balls to neighbour {NEIGHBOURS})")
        if self.floor is not None:
            kernel = f"{self.kernel_title} {self.floor.kernel_distance:.6f} ± {self.floor.kernel_deviation:.6f}"
            halves = f"real half against real half (N={self.floor.count}/{self.floor.count})"
            lines.append(f"floor, {halves}: {self.title} {self.floor.distance:.4f}, {kernel}")
        fewest = min((count for count in (self.count_real, self.count_generated) if count is not None), default=self.dim)
        if fewest < self.dim:
            note = f"with fewer images than features {self.title} is above 0 even for equal distributions; compare it only at equal N"
            lines.append(f"{note}, or by {self.kernel_title}")
        return lines

    def _extrapolation(self) -> str:
        if self.infinite_distance is None:
            return f"needs {fewest_images(self.dim)} generated images, twice the number of features"
        return f"{self.infinite_distance:.4f}"


def compare(real: FeatureStatistics, generated: FeatureStatistics, *, subsets: int = 100, seed: int = 0) -> Comparison:
    """Compare two sets of features.

    Args:
        subsets: random subsets whose mean and standard deviation are the kernel distance.
        seed: of these subsets, of the extrapolation's and of the floor's halves.

    Raises:
        InputError: see `frechet_distance` and `kernel_distance`.
    """
    distance, mean, deviation, infinite, manifold = frechet_distance(real, generated), None, None, None, None
    if real.features is not None and generated.features is not None:
        mean, deviation = kernel_distance(real.features, generated.features, num_subsets=subsets, seed=seed)
        if len(generated.features) >= fewest_images(real.dim):
            infinite = extrapolated_distance(real, generated, seed=seed)
        if min(len(real.features), len(generated.features)) > NEIGHBOURS:
            manifold = manifold_scores(real.features, generated.features, neighbours=NEIGHBOURS)._asdict()
    title, kernel_title = titles(real.extractor.network)
    return Comparison(
        title=title,
        distance=distance,
        kernel_title=kernel_title,
        kernel_distance=mean,
        kernel_deviation=deviation,
        infinite_distance=infinite,
        manifold=manifold,
        floor=real_floor(real, subsets=subsets, seed=seed),
        network=real.extractor.network,
        weights=real.extractor.weights,
        resize=real.extractor.resize,
        dim=real.dim,
        count_real=real.count,
        count_generated=generated.count,
    )


def real_floor(real: FeatureStatistics, *, subsets: int = 100, seed: int = 0) -> Floor | None:
    """The distances between two random halves of the real features; None without features, or with fewer than 4."""
    if real.features is None or len(real.features) < 4:
        return None
    order = torch.randperm(len(real.features), generator=torch.Generator().manual_seed(seed))
    count = len(order) // 2
    halves = []
    for chosen in (order[:count], order[count : 2 * count]):
        halves.append(FeatureStatistics(real.dim, extractor=real.extractor))
        halves[-1].update(real.features[chosen])
    first, second = (half.features for half in halves)
    assert first is not None and second is not None
    return Floor(frechet_distance(*halves), *kernel_distance(first, second, num_subsets=subsets, seed=seed), count)


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
        # without features: a subset is no smaller than F, and then the covariance is the smaller matrix
        subset = FeatureStatistics(dim, keep_features=False)
        subset.update(features[torch.randperm(len(features), generator=generator)[:size]])
        overlap = sum_of_singular_values(root @ covariance_root(subset).T)
        distances.append((real.mean - subset.mean).square().sum().item() + variance + subset.covariance.trace().item() - 2 * overlap)
    _, intercept = np.polyfit(1 / sizes, distances, 1)
    return float(intercept)
