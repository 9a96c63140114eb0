"""Several optimisers that move together."""

import math

import pytest
import torch

from shared.run.guards import NotFinite
from shared.run.updates import Updater

CPU = torch.device("cpu")


def pair() -> tuple[torch.nn.Parameter, torch.nn.Parameter, Updater]:
    weight, table = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    return weight, table, Updater([torch.optim.SGD([weight], lr=1.0), torch.optim.SGD([table], lr=10.0)], CPU, clip_norm=5.0)


def test_all_of_them_move_and_the_norm_is_that_of_all_gradients() -> None:
    weight, table, updater = pair()
    norms: list[float] = []
    updater.watchers.append(lambda norm: norms.append(math.nan if norm is None else norm.item()))
    updater.backward({"loss": 6 * weight[0] + 8 * table[1]})
    updater.update()
    assert norms == [10.0]
    torch.testing.assert_close(weight.detach(), torch.tensor([-3.0, 0.0]))
    torch.testing.assert_close(table.detach(), torch.tensor([0.0, -40.0]))
    assert weight.grad is None and table.grad is None


def test_none_of_them_moves_for_a_gradient_that_is_not_finite() -> None:
    weight, table, updater = pair()
    with pytest.raises(NotFinite):
        updater.backward({"loss": torch.inf * weight[0] + table[1]})
        updater.update()
    assert not weight.any() and not table.any()


def test_in_half_precision_all_of_them_leave_the_update_out() -> None:
    weight, table = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    updater = Updater([torch.optim.SGD([weight], lr=1.0), torch.optim.SGD([table], lr=1.0)], CPU, precision="fp16")
    scale = updater.scaler.get_scale()
    norms: list[float | None] = []
    updater.watchers.append(lambda norm: norms.append(None if norm is None else norm.item()))
    updater.backward({"loss": torch.inf * weight[0] + table[1]})
    updater.update()
    assert not weight.any() and not table.any() and updater.scaler.get_scale() < scale and norms == [None]
    updater.backward({"loss": weight[0] + table[1]})
    updater.update()
    torch.testing.assert_close(torch.cat([weight, table]).detach(), torch.tensor([-1.0, 0.0, 0.0, -1.0]))
    assert norms == [None, pytest.approx(2**0.5)]
