"""The compiled loss: padding, strides, threads, numbers that are none, and how it is compiled and kept."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numba import njit, types

from seg.kernels.numba.lanes import lane_count, load, store
from seg.kernels.numba.neighbour_loss import _exp, neighbour_loss_kernel
from seg.losses import neighbour_cross_entropy
from seg.neighbours import numba as neighbours_numba
from seg.neighbours.numba import TILE_PIXELS, numba_obstacle, require_numba
from shared import kernels as numba_code
from shared.errors import InputError
from shared.kernels import compiled
from tests.seg.losses.loss_problems import problem, relative_error, value_and_gradients


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def as_floats(tensors: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    return [tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors]


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponential_to_the_last_bits(dtype: type[np.floating[Any]]) -> None:
    @njit
    def exponentials(x: np.ndarray, lanes: int) -> None:
        for place in range(0, x.size, lanes):
            store(x, place, _exp(x, load(x, place)))

    lanes = lane_count(dtype)
    x = np.concatenate([-np.geomspace(1e-9, 708, 2000 * lanes - 3), [0, -np.inf, np.nan]]).astype(dtype)
    expected, results = np.exp(x.astype(np.float64)), x.copy()
    exponentials(results, lanes)
    normal = (expected > 2 * np.finfo(dtype).tiny) & (x > (-87 if dtype == np.float32 else -708))
    error = np.abs(results[normal] - expected[normal]) / expected[normal]
    assert error.max() < 2 * np.finfo(dtype).eps and normal.sum() > 1000
    assert results[-3] == 1 and results[-2] == 0 and np.isnan(results[-1]) and not results[x < -708].any()


# ---------------------------------------------------------------- memory layouts


# ---------------------------------------------------------------- threads


def test_threads_change_nothing_but_the_rounding(threads: Callable[[int], None]) -> None:
    """Three tiles and a bit, so that shares end within an image; the same number of threads gives the same bits."""
    pixels, classes, labels = as_floats(problem(3 * TILE_PIXELS + 77, 30, 12))
    truth = value_and_gradients(pixels.double(), classes.double(), labels, num_neighbours=4, impl="chunked")
    for count in (1, 2, 3):
        threads(count)
        first, again = (value_and_gradients(pixels, classes, labels, num_neighbours=4, impl="numba") for _ in range(2))
        for result, repeated, exact in zip(first, again, truth):
            assert torch.equal(result, repeated)
            assert relative_error(result, exact) < 1e-6


def test_more_classes_than_pixels_in_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """They get one class gradient per thread instead of two."""
    pixels, classes, labels = problem(300, 40, 7)
    expected = value_and_gradients(pixels, classes, labels, num_neighbours=3, impl="numba")
    monkeypatch.setattr("seg.losses.numba.TILE_PIXELS", 32)
    for result, same in zip(value_and_gradients(pixels, classes, labels, num_neighbours=3, impl="numba"), expected):
        torch.testing.assert_close(result, same)


# ---------------------------------------------------------------- what is not a number


# ---------------------------------------------------------------- compilation


def test_the_next_process_need_not_compile() -> None:
    neighbour_loss_kernel(np.dtype(np.float32))
    kernel: Any = neighbour_loss_kernel.__wrapped__(np.dtype(np.float32))  # as a process does that has not asked before
    assert sum(kernel.stats.cache_hits.values()) == 1 and not kernel.stats.cache_misses


def test_a_change_of_any_kernel_file_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(x: int) -> int:
        return 2 * x

    monkeypatch.setattr(numba_code, "_digest_of_kernels", lambda folder: "other")
    compiled(twice, types.int64, types.int64)
    assert twice.__qualname__ == "twice_other"  # numba names its files by it


def test_without_a_place_to_write_to_it_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def thrice(x: int) -> int:
        return 3 * x

    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "ZipCacheLocator", raising=False)  # which finds no place for this file
    assert compiled(thrice, types.int64, types.int64)(14) == 42


def test_missing_numba_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "seg.kernels.numba.search", None)
    reason = numba_obstacle.__wrapped__()
    assert "seg.kernels.numba.search" in reason
    monkeypatch.setattr(neighbours_numba, "numba_obstacle", lambda: "No module named 'numba'")
    with pytest.raises(InputError, match=r"'numba' cannot be loaded \(No module named 'numba'\); install the package numba, or choose"):
        neighbour_cross_entropy(torch.eye(4), torch.eye(4), torch.arange(4), num_neighbours=2, impl="numba")


def test_other_devices_are_refused() -> None:
    with pytest.raises(InputError, match="'numba' runs on the CPU, and the pixel embeddings are on cuda; choose another, or 'auto'"):
        require_numba(torch.device("cuda"))
