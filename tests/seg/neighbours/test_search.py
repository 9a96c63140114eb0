"""The search for the nearest classes against every distance, sorted; the best class against argmax."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.neighbours import best_classes, nearest_classes
from seg.neighbours import search as neighbours
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


def test_not_a_number_ends_the_search_and_leaves_the_other_pixels() -> None:
    pixels, classes = vectors(40, 12, 0), vectors(9, 12, 1)
    pixels[7] = torch.nan
    for backend in BACKENDS:
        ids, distances = nearest_classes(pixels, classes, 3, backend)
        others = torch.arange(40) != 7
        assert torch.equal(ids[others], brute_force(pixels[others], classes, 3)[0])
        assert distances[7].isnan().all() and ids.ge(0).all() and ids.lt(9).all()


@pytest.mark.parametrize("k", [1, 8, 30])
def test_backends_agree_on_many_classes(k: int) -> None:
    """Of so many, some are nearly equally near: there the distances decide whether the ids are right."""
    pixels, classes = (torch.nn.functional.normalize(vectors(count, 12, seed), dim=1) for count, seed in ((300, 0), (5003, 1)))
    exact = brute_force(pixels.double(), classes.double(), k)[1]
    for backend in BACKENDS:
        ids, distances = nearest_classes(pixels, classes, k, backend)
        assert all(len(set(row)) == k for row in ids.tolist())
        of_ids = (pixels.double()[:, None] - classes.double()[ids]).square().sum(-1)
        for measured in (distances.double(), of_ids):
            torch.testing.assert_close(measured, exact, rtol=1e-6, atol=0)


def test_strided_pixels() -> None:
    pixels, classes = vectors(7, 70, 0).T, vectors(7, 30, 1).T
    for backend in BACKENDS:
        assert torch.equal(nearest_classes(pixels, classes, 4, backend)[0], brute_force(pixels, classes, 4)[0])


@pytest.mark.parametrize("compiled", [True, False])
@settings(max_examples=20, deadline=None)
@given(num_images=st.integers(0, 3), num_pixels=st.integers(0, 50), num_classes=st.integers(1, 40), dim=st.sampled_from([1, 7, 12, 33]))
def test_best_class_is_argmax_with_the_lowest_id(compiled: bool, num_images: int, num_pixels: int, num_classes: int, dim: int) -> None:
    """Small integers: the products are exact, and many are equal."""
    generator = torch.Generator().manual_seed(num_pixels)
    pixels = torch.randint(-2, 3, (num_images, num_pixels, dim), generator=generator).float().transpose(1, 2)
    classes = torch.randint(-2, 3, (num_classes, dim), generator=generator).float()
    expected = torch.einsum("nds,cd->nsc", pixels, classes).argmax(-1)
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(neighbours, "numba_obstacle", lambda: "not there")
        for variant in (pixels, pixels.contiguous(), pixels.double(), pixels.bfloat16()):
            assert torch.equal(best_classes(variant, classes), expected)


def test_best_class_does_not_depend_on_the_length_of_the_pixel() -> None:
    pixels, classes = vectors(7 * 20, 12, 0).view(7, 12, 20), torch.nn.functional.normalize(vectors(50, 12, 1), dim=1)
    assert torch.equal(best_classes(1e-9 * pixels, classes), best_classes(pixels, classes))


@pytest.mark.parametrize("package", ["faiss", "numba"])
def test_a_missing_package_is_told_in_one_line_and_auto_does_without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, classes = vectors(4, 3, 0), vectors(5, 3, 1)
    monkeypatch.setitem(sys.modules, "faiss", None)
    for module in ("seg.neighbours.search", "seg.neighbours.numba"):
        monkeypatch.setattr(f"{module}.numba_obstacle", lambda: "not there")
    with pytest.raises(InputError, match=f"'{package}' cannot be loaded .*; install"):
        nearest_classes(pixels, classes, 2, package)
    assert torch.equal(nearest_classes(pixels, classes, 2)[0], brute_force(pixels, classes, 2)[0])


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
    with pytest.raises(InputError, match=r"unknown search backend 'exact'; choose one of auto, torch, faiss, numba"):
        nearest_classes(pixels, classes, 1, backend="exact")
