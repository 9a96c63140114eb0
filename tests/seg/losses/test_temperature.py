"""The learned temperature: where it starts and ends, and its gradient through every implementation of the loss."""

import pytest
import torch

from seg.config import LossConfig, SegConfig
from seg.losses import exact_cross_entropy, neighbour_cross_entropy
from seg.losses.temperature import HIGHEST, LOWEST, START, LearnedTemperature
from seg.unit_vectors import unit_norm
from shared.errors import InputError


def test_it_starts_soft_and_stays_within_its_bounds() -> None:
    temperature = LearnedTemperature()
    assert temperature().item() == pytest.approx(START)
    for raw, bound in ((-100.0, LOWEST), (100.0, HIGHEST)):
        temperature.raw.data.fill_(raw)
        assert temperature().item() == pytest.approx(bound)


@pytest.mark.parametrize("impl", ["reference", "chunked", "numba"])
@pytest.mark.parametrize("neighbours", [None, 4])
def test_the_loss_and_its_gradient_are_those_of_a_tensor_temperature(impl: str, neighbours: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = unit_norm(torch.randn(200, 6, generator=generator), dim=1)
    classes = unit_norm(torch.randn(9, 6, generator=generator), dim=1)
    labels = torch.randint(9, (200,), generator=generator)
    temperature = LearnedTemperature(0.3)
    sharpened = temperature.sharpen(classes)
    if neighbours is None:
        loss = exact_cross_entropy(pixels, sharpened, labels, temperature=1.0, impl=impl)
    else:
        loss = neighbour_cross_entropy(pixels, sharpened, labels, num_neighbours=neighbours, temperature=1.0, impl=impl)
    loss.backward()

    plain = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    squared = (pixels[:, None].double() - classes.double()).square().sum(2)
    logits = -squared / plain
    if neighbours is not None:
        kept = torch.zeros_like(squared, dtype=torch.bool).scatter(1, squared.topk(neighbours, largest=False).indices, True)
        logits = logits.masked_fill(~kept.scatter(1, labels[:, None], True), -torch.inf)
    expected = torch.nn.functional.cross_entropy(logits, labels)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert temperature.raw.grad is not None and plain.grad is not None
    slope = torch.autograd.grad(temperature(), temperature.raw)[0].item()
    assert temperature.raw.grad.item() == pytest.approx(plain.grad.item() * slope, rel=1e-3)


def test_where_it_is_learned() -> None:
    """By default, where a squared distance is compared; a plain one has a scale, and class scores have neither."""
    assert SegConfig().learns_temperature
    for other in (SegConfig(head="softmax"), SegConfig(loss=LossConfig(distance="plain")), SegConfig(loss=LossConfig(temperature=0.05))):
        assert not other.learns_temperature


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"loss\.temperature is 0\.0; it must be above 0, or learned"):
        LossConfig(temperature=0.0)
