"""The kernel distance against a plain double sum, and its behaviour at small counts."""

import pytest
import torch

from shared.errors import InputError
from shared.fid import kernel_distance


def normal(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def plain_squared_mmd(x: torch.Tensor, y: torch.Tensor) -> float:
    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(((a @ b) / len(a) + 1) ** 3)

    n, m, x, y = len(x), len(y), x.double(), y.double()
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m)


def test_whole_sets_give_the_unbiased_estimate() -> None:
    x, y = normal(7, 5, 1), normal(7, 5, 2) + 0.5
    mean, deviation = kernel_distance(x, y, num_subsets=3, subset_size=7)
    assert mean == pytest.approx(plain_squared_mmd(x, y), rel=1e-12)
    assert deviation == pytest.approx(0, abs=1e-12)


def test_equal_distributions_are_zero_within_the_deviation() -> None:
    means = [kernel_distance(normal(100, 64, 2 * seed), normal(100, 64, 2 * seed + 1), num_subsets=20)[0] for seed in range(20)]
    spread = torch.tensor(means)
    assert abs(spread.mean()) < 3 * spread.std() / len(means) ** 0.5
    assert min(means) < 0 < max(means)


def test_different_distributions_are_many_deviations_apart() -> None:
    mean, deviation = kernel_distance(normal(200, 64, 1), normal(150, 64, 2) * 1.2 + 0.3)
    assert mean > 5 * deviation > 0


def test_the_default_subset_leaves_a_deviation() -> None:
    _, deviation = kernel_distance(normal(6, 4, 1), normal(5, 4, 2))
    assert deviation > 0
    assert kernel_distance(normal(2, 4, 1), normal(3, 4, 2))[1] >= 0


def test_the_seed_decides() -> None:
    x, y = normal(50, 8, 1), normal(50, 8, 2)
    assert kernel_distance(x, y, seed=1) == kernel_distance(x, y, seed=1)
    assert kernel_distance(x, y, seed=1) != kernel_distance(x, y, seed=2)


def test_half_precision_and_unchanged_arguments() -> None:
    x, y = normal(20, 8, 1).half(), normal(20, 8, 2).half()
    before = x.clone()
    assert kernel_distance(x, y) == kernel_distance(x.double(), y.double())
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("x", "y", "size", "message"),
    [
        (normal(5, 3), normal(5, 4), None, "equally many features"),
        (normal(5, 3), torch.full((5, 3), float("nan")), None, "not finite"),
        (normal(1, 3), normal(5, 3), None, "subset size 2 does not fit sets of 1 and 5 images"),
        (normal(5, 3), normal(5, 3), 6, "subset size 6 .* give 2 to 5"),
        (normal(5, 3), normal(5, 3), 1, "subset size 1"),
    ],
)
def test_refusals(x: torch.Tensor, y: torch.Tensor, size: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kernel_distance(x, y, subset_size=size)
