"""The compiled loss: padding, strides, threads, numbers that are none, and how it is compiled and kept."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit, types

from seg.kernels.numba.lanes import lane_count, load, store
from seg.kernels.numba.neighbour_loss import _exp, neighbour_loss_kernel
from seg.losses import neighbour_cross_entropy
from seg.neighbours import numba as neighbours_numba
from seg.neighbours.numba import TILE_PIXELS, numba_obstacle, require_numba
from shared import kernels as numba_code
from shared.errors import InputError
from shared.kernels import compiled
from tests.seg.losses.loss_problems import DISTANCES, problem, relative_error, value_and_gradients


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def as_floats(tensors: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    return [tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors]


# ---------------------------------------------------------------- values


@settings(max_examples=40, deadline=None)
@given(
    num_pixels=st.integers(1, 90),
    num_classes=st.integers(2, 40),
    dim=st.sampled_from([1, 2, 7, 12, 16, 33, 64]),
    distance=st.sampled_from(DISTANCES),
    double=st.booleans(),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_equals_the_reference_for_any_size(
    num_pixels: int, num_classes: int, dim: int, distance: str, double: bool, seed: int, data: st.DataObject
) -> None:
    problem_of_doubles = problem(num_pixels, num_classes, dim, seed=seed)
    options: dict[str, Any] = {"num_neighbours": data.draw(st.integers(1, num_classes - 1)), "distance": distance}
    truth = value_and_gradients(*problem_of_doubles, impl="reference", **options)
    if double:
        for result, expected in zip(value_and_gradients(*problem_of_doubles, impl="numba", **options), truth):
            torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-13)
        return
    pixels, classes, labels = as_floats(problem_of_doubles)
    truth = value_and_gradients(pixels.double(), classes.double(), labels, impl="reference", **options)
    plain = value_and_gradients(pixels, classes, labels, impl="reference", **options)
    for result, reference, exact in zip(value_and_gradients(pixels, classes, labels, impl="numba", **options), plain, truth):
        assert (result - exact).norm() <= 2 * (reference - exact).norm() + 2e-6 * exact.norm() + 1e-16


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


def test_neighbours_far_from_the_origin_are_those_of_the_reference() -> None:
    """Every pixel is in doubt after the fast search: products of vectors of norm 3000 have no digits left for these differences."""
    pixels, classes, labels = as_floats(problem(100, 30, 12, unit=False))
    pixels, classes = 1000 + pixels.round(decimals=1), 1000 + classes.round(decimals=1)
    options: dict[str, Any] = {"num_neighbours": 4, "temperature": 5.0}
    truth = value_and_gradients(pixels.double(), classes.double(), labels, impl="reference", **options)
    for result, exact in zip(value_and_gradients(pixels, classes, labels, impl="numba", **options), truth):
        assert relative_error(result, exact) < 1e-5


def test_of_equal_classes_the_first_are_neighbours() -> None:
    classes = F.normalize(torch.randn(3, 12, generator=torch.Generator().manual_seed(0)), dim=1)[torch.tensor([1, 0, 2, 0, 0, 0])]
    _, _, gradient = value_and_gradients(classes[1:2], classes, torch.tensor([2]), num_neighbours=2, temperature=1.0, impl="numba")
    assert gradient.any(1).tolist() == [False, False, True, False, False, False]  # of the pixel's own place nothing pulls
    _, _, gradient = value_and_gradients(classes[1:2] + 0.01, classes, torch.tensor([2]), num_neighbours=2, temperature=1.0, impl="numba")
    assert gradient.any(1).tolist() == [False, True, True, True, False, False]


# ---------------------------------------------------------------- memory layouts


def test_any_strides_give_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = F.normalize(torch.randn(2, 7, 9, 11, generator=generator), dim=1)
    labels = torch.randint(-1, 20, (2, 9, 11), generator=generator)
    classes = F.normalize(torch.randn(20, 7, generator=generator), dim=1)
    expected = value_and_gradients(maps, classes, labels, num_neighbours=5, impl="numba")
    wide = torch.zeros(2, 7, 9, 22)
    wide[..., ::2] = maps
    for strided in (maps.to(memory_format=torch.channels_last), wide[..., ::2], maps.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)):
        leaf = strided.detach().requires_grad_()
        leaf_classes = classes.T.contiguous().T.requires_grad_()
        loss = neighbour_cross_entropy(leaf, leaf_classes, labels.to(torch.int16), num_neighbours=5, impl="numba")
        loss.backward()
        assert leaf.grad is not None and leaf_classes.grad is not None
        for result, same in zip((loss.detach(), leaf.grad, leaf_classes.grad), expected):
            torch.testing.assert_close(result, same, rtol=1e-6, atol=1e-8)


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


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_valid_pixel_that_is_not_a_number_spoils_the_loss_and_no_other_pixel(bad: float) -> None:
    pixels, classes, labels = as_floats(problem(50, 9, 7))
    labels[4], labels[5:] = 0, labels[5:].clamp_min(0)
    pixels[4, 2] = bad
    loss, pixel_gradient, _ = value_and_gradients(pixels, classes, labels, num_neighbours=3, impl="numba")
    assert loss.isnan()
    assert pixel_gradient[4].isnan().any() and pixel_gradient[torch.arange(50) != 4].isfinite().all()


def test_a_class_that_is_not_a_number_spoils_the_loss() -> None:
    pixels, classes, labels = as_floats(problem(50, 9, 7))
    classes[8], labels = torch.nan, labels.clamp_max(3)
    assert neighbour_cross_entropy(pixels, classes, labels, num_neighbours=3, impl="numba").isnan()


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
