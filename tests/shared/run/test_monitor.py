"""What a training says of itself: right figures, and no effect on the training."""

import math

import pytest
import torch

from shared.run.monitor import PEAK_MEMORY, Monitor
from shared.run.updates import Updater

CPU = torch.device("cpu")


def trained(watched: bool, clip_norm: float | None = None) -> tuple[torch.Tensor, dict[str, float], dict[str, float]]:
    """Weights after three steps, and the figures of a monitor over them."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 1, bias=False)
    updater = Updater(torch.optim.SGD(layer.parameters(), lr=0.1), CPU, clip_norm=clip_norm)
    monitor = Monitor({"model": updater}, 8, CPU) if watched else None
    for slope in (1.0, 2.0, 3.0):
        updater.backward({"loss": layer(torch.full((1, 3), slope)).sum()})  # gradient: slope in each of three weights
        updater.update()
    return layer.weight.detach(), *((monitor.gradient_norms(), monitor.resources()) if monitor else ({}, {}))


def test_norms_are_means_over_steps_and_the_weights_are_the_same() -> None:
    weights, norms, resources = trained(watched=True)
    assert norms == {"gradient_norm/model": pytest.approx(2 * math.sqrt(3))}
    assert resources["images_per_second"] > 0 and resources[PEAK_MEMORY] > 1
    assert torch.equal(weights, trained(watched=False)[0])


def test_norms_are_those_before_clipping_and_clipped_steps_are_counted() -> None:
    weights, norms, _ = trained(watched=True, clip_norm=3.0)  # the norms are √3, 2√3 and 3√3
    assert norms == {"gradient_norm/model": pytest.approx(2 * math.sqrt(3)), "clipped/model": pytest.approx(2 / 3)}
    moved = trained(watched=False)[0] - weights
    torch.testing.assert_close(moved, torch.full((1, 3), -0.1 * (1 + 2 + 3 - 1 - 2 * 3 / math.sqrt(3))))


def test_figures_begin_anew_and_updaters_are_kept_apart() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    updaters = {name: Updater(torch.optim.Adam([value]), CPU) for name, value in (("generator", first), ("discriminator", second))}
    monitor = Monitor(updaters, 1, CPU)
    first.grad, second.grad = torch.full((1,), -3.0), torch.full((1,), 4.0)
    for updater in updaters.values():
        updater.update()
    assert monitor.gradient_norms() == {"gradient_norm/generator": 3.0, "gradient_norm/discriminator": 4.0}
    assert monitor.gradient_norms() == {}
    assert monitor.resources().keys() == {PEAK_MEMORY}  # one step has no duration
    first.grad = torch.ones(1)
    updaters["generator"].update()
    assert monitor.resources().keys() == {PEAK_MEMORY, "images_per_second"}


@pytest.mark.parametrize("fused", [False, True])
def test_updates_that_half_precision_leaves_out_are_counted_and_have_no_norm(fused: bool) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    updater = Updater(torch.optim.Adam([weight], fused=fused), CPU, precision="fp16")
    monitor, resumed = (Monitor({"model": updater}, 1, CPU) for _ in range(2))
    for slope in (3.0, math.inf, 5.0, math.inf):
        updater.backward({"loss": slope * weight[0]})
        updater.update()
    assert weight.isfinite().all()
    resumed.load_state_dict(monitor.state_dict())
    for some in (monitor, resumed):
        assert some.gradient_norms() == {"gradient_norm/model": pytest.approx(4.0), "skipped/model": 0.5}
    updater.backward({"loss": math.inf * weight[0]})
    updater.update()
    assert monitor.gradient_norms() == {"skipped/model": 1.0}
