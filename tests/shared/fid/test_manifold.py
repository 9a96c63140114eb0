"""Precision, recall, density and coverage: by hand, by definition, and what they must not do."""

import pytest
import torch

from shared.errors import InputError
from shared.fid import manifold
from shared.fid.manifold import ManifoldScores, manifold_scores


def by_definition(real: torch.Tensor, generated: torch.Tensor, k: int) -> ManifoldScores:
    """The four sums of the papers, one pair at a time."""

    def radius(points: torch.Tensor, i: int) -> float:
        return sorted(float((points[i] - other).norm()) for j, other in enumerate(points) if j != i)[k - 1]

    def inside(point: torch.Tensor, points: torch.Tensor, i: int) -> bool:
        return float((point - points[i]).norm()) <= radius(points, i)

    in_real = [[inside(g, real, i) for i in range(len(real))] for g in generated]
    in_generated = [any(inside(r, generated, i) for i in range(len(generated))) for r in real]
    covered = [any(row[i] for row in in_real) for i in range(len(real))]
    return ManifoldScores(
        sum(map(any, in_real)) / len(generated),
        sum(in_generated) / len(real),
        sum(map(sum, in_real)) / (k * len(generated)),
        sum(covered) / len(real),
    )


def test_on_a_line_by_hand() -> None:
    """Real 0 1 2 3 with balls of radius 1; one generated feature lies in the balls of 0 and 1, the others far away near each other."""
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    generated = torch.tensor([[0.5], [50.0], [51.0], [52.0]])
    assert manifold_scores(real, generated, neighbours=1) == (1 / 4, 1.0, 2 / 4, 2 / 4)  # the ball of 0.5 reaches 50, over all real ones


@pytest.mark.parametrize("k", [1, 3, 5])
def test_equals_the_definition(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold, "BLOCK_ELEMENTS", 100)
    generator = torch.Generator().manual_seed(k)
    real, generated = torch.randn(30, 3, generator=generator).double(), torch.randn(23, 3, generator=generator).double() * 0.7 + 0.5
    assert manifold_scores(real, generated, neighbours=k) == pytest.approx(by_definition(real, generated, k))


def test_a_set_compared_with_itself_is_covered() -> None:
    features = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    precision, recall, density, coverage = manifold_scores(features, features)
    assert precision == recall == coverage == 1 and density >= 1


def test_lost_variety_costs_recall_and_coverage_but_not_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(400, 8, generator=generator)
    collapsed = real[:40].repeat(10, 1) + 0.01 * torch.randn(400, 8, generator=generator)
    found = manifold_scores(real, collapsed)
    assert found.precision > 0.95 and found.recall < 0.5 and found.coverage < 0.6


def test_refusals() -> None:
    with pytest.raises(InputError, match="5 neighbours do not fit sets of 5 and 9 images"):
        manifold_scores(torch.randn(5, 3), torch.randn(9, 3))
    with pytest.raises(InputError, match="equally many features"):
        manifold_scores(torch.randn(9, 3), torch.randn(9, 4))
