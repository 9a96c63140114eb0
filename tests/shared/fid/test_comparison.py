"""The Fréchet distance at infinitely many images: nearer to the truth than any finite count, and no answer where there is none."""

import pytest
import torch

from shared.fid import FeatureStatistics, frechet_distance
from shared.fid.comparison import compare, extrapolated_distance, fewest_images, real_floor

DIM = 16


def statistics(count: int, seed: int, shift: float = 0.0) -> FeatureStatistics:
    """Features of a Gaussian with a falling spectrum."""
    scales = torch.arange(1, DIM + 1, dtype=torch.float64).rsqrt()
    features = torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scales + shift
    result = FeatureStatistics(DIM)
    result.update(features)
    return result


def test_the_bias_of_few_images_goes() -> None:
    """Of one distribution, whose distance to itself is 0."""
    real = statistics(100_000, 0)
    finite = [frechet_distance(real, statistics(400, seed)) for seed in range(1, 7)]
    infinite = [extrapolated_distance(real, statistics(400, seed)) for seed in range(1, 7)]
    assert min(finite) > 0.01
    assert abs(sum(infinite)) < sum(finite) / 4


def test_the_line_ends_in_the_distance_of_all_images() -> None:
    """With two points the line goes through both: of all images, and of half of them."""
    real, generated = statistics(500, 0), statistics(fewest_images(DIM), 1)
    at_infinity = extrapolated_distance(real, generated, points=2, seed=3)
    assert generated.features is not None
    order = torch.randperm(len(generated.features), generator=torch.Generator().manual_seed(3))[:DIM]
    half = FeatureStatistics(DIM)
    half.update(generated.features[order])
    assert 2 * frechet_distance(real, generated) - frechet_distance(real, half) == pytest.approx(at_infinity, rel=1e-5)


def test_too_few_images_have_no_limit() -> None:
    enough, fewer = (compare(statistics(90, 0), statistics(fewest_images(DIM) - less, 1)) for less in (0, 1))
    assert enough.infinite_distance is not None
    assert fewer.infinite_distance is None
    assert "needs 32 generated images" in "\n".join(fewer.lines())


def test_the_floor_is_small_beside_a_difference() -> None:
    real = statistics(101, 0)
    floor = real_floor(real)
    assert floor is not None and floor.count == 50
    assert abs(floor.kernel_distance) < 3 * floor.kernel_deviation
    assert floor.distance < frechet_distance(real, statistics(101, 1, 1.0)) / 10
    assert real_floor(statistics(3, 0)) is None
