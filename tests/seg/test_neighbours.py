"""The search for the nearest classes against every distance, sorted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.neighbours import nearest_classes
from shared.errors import InputError

BACKENDS = ["torch", "faiss", "numba"]


def brute_force(pixels: torch.Tensor, classes: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    squared = (pixels[:, None] - classes).square().sum(-1)
    distances, ids = squared.sort(dim=1, stable=True)
    return ids[:, :k], distances[:, :k]


def vectors(count: int, dim: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=25, deadline=None)
@given(
    num_pixels=st.integers(1, 60),
    num_classes=st.integers(1, 40),
    dim=st.sampled_from([1, 7, 12]),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
    double=st.booleans(),
    data=st.data(),
)
def test_search_equals_brute_force(
    backend: str, num_pixels: int, num_classes: int, dim: int, scale: float, double: bool, data: st.DataObject
) -> None:
    dtype = torch.float64 if double else torch.float32
    k = data.draw(st.integers(1, num_classes))
    pixels, classes = vectors(num_pixels, dim, 0, scale).to(dtype), vectors(num_classes, dim, 1, scale).to(dtype)
    ids, distances = nearest_classes(pixels, classes, k, backend)
    expected_ids, expected_distances = brute_force(pixels, classes, k)
    assert ids.dtype == torch.int64
    assert torch.equal(ids, expected_ids)
    torch.testing.assert_close(distances, expected_distances)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_classes_come_in_order_of_id(backend: str) -> None:
    classes = vectors(3, 12, 0)[torch.tensor([2, 0, 1, 0, 0, 1, 0, 2, 0, 0, 0, 0])]
    ids, distances = nearest_classes(vectors(3, 12, 0)[:1], classes, 4, backend)
    assert ids.tolist() == [[1, 3, 4, 6]]
    assert distances.tolist() == [[0.0] * 4]


@pytest.mark.parametrize("backend", BACKENDS)
def test_rounding_decides_no_neighbour_far_from_the_origin(backend: str) -> None:
    """|x|² is 10⁸ times the differences here: expanded float32 distances alone would be noise."""
    pixels, classes = 1000 + vectors(20, 12, 0, 0.1), 1000 + vectors(50, 12, 1, 0.1)
    ids, distances = nearest_classes(pixels, classes, 5, backend)
    expected_ids, expected_distances = brute_force(pixels, classes, 5)
    assert torch.equal(ids, expected_ids)
    torch.testing.assert_close(distances, expected_distances)


def test_distances_to_itself_are_zero_and_none_is_negative() -> None:
    classes = vectors(100, 12, 0)
    ids, distances = nearest_classes(classes, classes, 3)
    assert torch.equal(ids[:, 0], torch.arange(100))
    assert distances[:, 0].eq(0).all() and distances.ge(0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_searched_in_float32(dtype: torch.dtype) -> None:
    pixels, classes = vectors(50, 12, 0).to(dtype), vectors(30, 12, 1).to(dtype)
    ids, distances = nearest_classes(pixels, classes, 4)
    assert distances.dtype == torch.float32
    assert torch.equal(ids, brute_force(pixels.float(), classes.float(), 4)[0])


def test_autocast_and_reduced_matmul_precision_do_not_reach_the_search() -> None:
    pixels, classes = vectors(200, 12, 0), vectors(300, 12, 1)
    expected = nearest_classes(pixels, classes, 4)[0]
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(nearest_classes(pixels, classes, 4)[0], expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_chunks_join_and_nothing_carries_a_gradient() -> None:
    pixels, classes = vectors(40_000, 3, 0).requires_grad_(), vectors(5, 3, 1).requires_grad_()
    ids, distances = nearest_classes(pixels, classes, 2)
    assert torch.equal(ids, brute_force(pixels, classes, 2)[0])
    assert not distances.requires_grad
    assert nearest_classes(pixels[:0], classes, 2)[0].shape == (0, 2)


def test_refusals() -> None:
    pixels, classes = vectors(4, 3, 0), vectors(5, 3, 1)
    with pytest.raises(InputError, match="the 6 nearest of 5 classes; choose a number of neighbours from 1 to 5"):
        nearest_classes(pixels, classes, 6)
    with pytest.raises(InputError, match="the 0 nearest"):
        nearest_classes(pixels, classes, 0)
    with pytest.raises(InputError, match=r"unknown search backend 'exact'; choose one of auto, torch, faiss"):
        nearest_classes(pixels, classes, 1, backend="exact")
