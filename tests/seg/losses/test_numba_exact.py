"""The compiled loss over all classes: sums in parts, strips of classes, blocks that need a shift, numbers that are none."""

from typing import Any

import numpy as np
import pytest
import torch
from numba import njit

from seg.kernels.numba.exact_loss import FEW_CLASSES, STRIP_CLASSES, _exp2, pixels_of_a_block
from seg.kernels.numba.lanes import lane_count, load, store
from tests.seg.losses.loss_problems import problem, relative_error, value_and_gradients


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_power_of_two_to_the_last_bits(dtype: type[np.floating[Any]]) -> None:
    @njit
    def powers(x: np.ndarray, lanes: int) -> None:
        for place in range(0, x.size, lanes):
            store(x, place, _exp2(x, load(x, place)))

    lanes, limit = lane_count(dtype), 126 if dtype == np.float32 else 1022
    x = np.concatenate([np.linspace(-limit, limit, 500 * lanes - 4), [0, -np.inf, np.inf, np.nan]]).astype(dtype)
    results, expected = x.copy(), np.exp2(x[:-4].astype(np.float64))
    powers(results, lanes)
    assert (np.abs(results[:-4] - expected) / expected).max() < 2 * np.finfo(dtype).eps
    assert results[-4] == 1 and results[-3] == 0 and not results[-2] < 2.0 ** (limit - 1) and np.isnan(results[-1])


@pytest.mark.parametrize("num_classes", [FEW_CLASSES + 3, STRIP_CLASSES + 5])
@pytest.mark.parametrize("temperature", [0.05, 1e-3])
def test_many_classes(num_classes: int, temperature: float) -> None:
    """Sums of sums; more classes than exponentials are kept of, so that they are made again. The low temperature needs a shift."""
    blocks = 3 if num_classes < STRIP_CLASSES else 1
    pixels, classes, labels = problem(blocks * pixels_of_a_block(np.dtype(np.float32)) + 1, num_classes, 12)
    labels[:3] = torch.tensor([0, num_classes - 1, FEW_CLASSES])
    truth = value_and_gradients(pixels, classes, labels, temperature=temperature, impl="reference")
    for result, expected in zip(value_and_gradients(pixels, classes, labels, temperature=temperature, impl="numba"), truth):
        torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-12)
    pixels, classes = pixels.float(), classes.float()
    truth = value_and_gradients(pixels.double(), classes.double(), labels, temperature=temperature, impl="reference")
    for result, expected in zip(value_and_gradients(pixels, classes, labels, temperature=temperature, impl="numba"), truth):
        assert relative_error(result, expected) < 1e-6 / temperature


def test_late_in_a_training_the_loss_keeps_its_digits() -> None:
    """Pixels at their class's place: the loss is far below the rounding error of 1, which is the target's share of the whole sum."""
    _, classes, _ = problem(1, 40, 12)
    labels, distances = torch.arange(40), torch.cdist(classes, classes).square().fill_diagonal_(torch.inf)
    others = torch.exp(-distances / 0.02).sum(1)
    loss, _, _ = value_and_gradients(classes.float(), classes.float(), labels, temperature=0.02, impl="numba")
    assert 0 < others.log1p().mean() < 1e-6 and relative_error(loss, others.log1p().mean()) < 1e-4
