"""Class embeddings on the sphere: the angle of a step is the setting's, whatever the norm, the size and the scale of the gradient."""

import math

import pytest
import torch
from torch import nn

from seg.training.sphere import SphereAdam, degrees_between


def table(classes: int, dim: int, norm: float = 1.0) -> nn.Parameter:
    rows = torch.randn(classes, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return nn.Parameter(norm * rows / rows.norm(dim=1, keepdim=True))


def turned(parameter: nn.Parameter, slopes: list[torch.Tensor], degrees: float) -> list[torch.Tensor]:
    """Angle of every row at each of several steps, with losses that are linear in the unit vectors."""
    optimizer, angles = SphereAdam([parameter], degrees), []
    for slope in slopes:
        before = nn.functional.normalize(parameter)
        (before * slope).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        angles.append(degrees_between(before.detach(), parameter.detach()))
    return angles


@pytest.mark.parametrize(("dim", "norm", "scale"), [(3, 1.0, 1.0), (3, 0.01, 1e-6), (64, 8.0, 1e4), (2, 100.0, 1.0)])
def test_the_first_step_turns_every_row_by_the_rate(dim: int, norm: float, scale: float) -> None:
    parameter = table(5, dim, norm)
    slope = scale * torch.randn(5, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    angles = turned(parameter, [slope], degrees=1.5)[0]
    torch.testing.assert_close(angles, torch.full_like(angles, 1.5), rtol=1e-4, atol=0)
    torch.testing.assert_close(parameter.norm(dim=1), torch.ones(5, dtype=torch.float64))


def test_a_steady_pull_turns_at_the_rate_and_a_random_one_slower() -> None:
    goal = table(4, 6).detach().roll(1, 0)
    steady = turned(table(4, 6), [-goal] * 8, degrees=1.0)
    assert 0.85 < torch.stack(steady).mean() <= 1 + 1e-9
    generator = torch.Generator().manual_seed(2)
    noise = [torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(60)]
    assert torch.stack(turned(table(4, 6), noise, degrees=1.0)[20:]).mean() < 0.5


def test_the_step_descends_along_the_great_circle() -> None:
    parameter = nn.Parameter(torch.tensor([[2.0, 0.0]]))
    turned(parameter, [torch.tensor([[5.0, -1.0]])], degrees=30.0)  # the part along the vector counts for nothing
    torch.testing.assert_close(parameter.detach(), torch.tensor([[math.cos(math.pi / 6), 0.5]]))


def test_rows_reach_what_the_loss_wants_and_rows_without_gradient_stay() -> None:
    parameter, goal = table(3, 4), table(3, 4).detach().flip(0)
    goal[2] = 0
    before = parameter.detach().clone()
    turned(parameter, [-goal] * 200, degrees=2.0)
    assert degrees_between(parameter.detach()[:2], goal[:2]).max() < 4
    torch.testing.assert_close(parameter[2].detach(), before[2])


def test_a_resumed_optimiser_turns_the_same_rows() -> None:
    slopes = [torch.randn(3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in range(6)]
    whole = table(3, 4)
    turned(whole, slopes, degrees=1.0)
    first = table(3, 4)
    optimizer = SphereAdam([first], 1.0)
    for number, slope in enumerate(slopes):
        if number == 3:
            stored = optimizer.state_dict()
            first = nn.Parameter(first.detach().clone())
            optimizer = SphereAdam([first], 1.0)
            optimizer.load_state_dict(stored)
        (nn.functional.normalize(first) * slope).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(first, whole)


def test_small_angles_are_exact_in_single_precision() -> None:
    angle = torch.tensor([0.01, 1.0, 90.0, 180.0]).deg2rad()
    before = torch.tensor([1.0, 0.0]).expand(4, 2)
    after = torch.stack([angle.cos(), angle.sin()], dim=1)
    torch.testing.assert_close(degrees_between(before, after), angle.rad2deg(), rtol=1e-3, atol=0)
