"""What a training says of itself: right figures, and no effect on the training."""

import math

import pytest
import torch

from shared.run.monitor import PEAK_MEMORY, Monitor


def trained(watched: bool) -> tuple[torch.Tensor, dict[str, float], dict[str, float]]:
    """Weights after three steps, and the figures of a monitor over them."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    monitor = Monitor({"model": optimizer}, 8, torch.device("cpu")) if watched else None
    for slope in (1.0, 2.0, 3.0):
        layer(torch.full((1, 3), slope)).sum().backward()  # gradient: slope in each of three weights
        optimizer.step()
        optimizer.zero_grad()
    return layer.weight.detach(), *((monitor.gradient_norms(), monitor.resources()) if monitor else ({}, {}))


def test_norms_are_means_over_steps_and_the_weights_are_the_same() -> None:
    weights, norms, resources = trained(watched=True)
    assert norms == {"gradient_norm/model": pytest.approx(2 * math.sqrt(3))}
    assert resources["images_per_second"] > 0 and resources[PEAK_MEMORY] > 1
    assert torch.equal(weights, trained(watched=False)[0])


def test_figures_begin_anew_and_optimisers_are_kept_apart() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizers = {"generator": torch.optim.Adam([first]), "discriminator": torch.optim.Adam([second])}
    monitor = Monitor(optimizers, 1, torch.device("cpu"))
    first.grad, second.grad = torch.full((1,), -3.0), torch.full((1,), 4.0)
    for optimizer in optimizers.values():
        optimizer.step()
    assert monitor.gradient_norms() == {"gradient_norm/generator": 3.0, "gradient_norm/discriminator": 4.0}
    assert monitor.gradient_norms() == {}
    assert monitor.resources().keys() == {PEAK_MEMORY}  # one step has no duration
    optimizers["generator"].step()
    assert monitor.resources().keys() == {PEAK_MEMORY, "images_per_second"}
