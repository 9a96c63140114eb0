"""Every implementation of the embedding loss against the reference."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seg.losses.loss_problems import DISTANCES, FAST_IMPLS, IMPLS, cross_entropy, problem, relative_error, value_and_gradients


@pytest.mark.parametrize("impl", FAST_IMPLS)
@settings(max_examples=40, deadline=None)
@given(
    num_classes=st.integers(1, 30),
    dim=st.sampled_from([1, 7, 12]),
    distance=st.sampled_from(DISTANCES),
    temperature=st.sampled_from([1e-4, 0.05, 1.0]),
    unit=st.booleans(),
    duplicated=st.booleans(),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_equals_the_reference(
    impl: str,
    num_classes: int,
    dim: int,
    distance: str,
    temperature: float,
    unit: bool,
    duplicated: bool,
    seed: int,
    data: st.DataObject,
) -> None:
    """In float64 to its last digits; in float32 as near to the truth as the reference in float32, or a few roundings more."""
    pixels, classes, labels = problem(50, num_classes, dim, unit=unit, seed=seed)
    if duplicated:
        classes[num_classes // 2 :] = classes[: num_classes - num_classes // 2].clone()
    options = {
        "num_neighbours": data.draw(st.one_of(st.none(), st.integers(1, num_classes))),
        "distance": distance,
        "temperature": temperature,
        "scale": 1 / temperature,
    }
    truth = value_and_gradients(pixels, classes, labels, impl="reference", **options)
    for result, expected in zip(value_and_gradients(pixels, classes, labels, impl=impl, **options), truth):
        torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9 / temperature)

    pixels, classes = pixels.float(), classes.float()
    truth = value_and_gradients(pixels.double(), classes.double(), labels, impl="reference", **options)
    reference = value_and_gradients(pixels, classes, labels, impl="reference", **options)
    result = value_and_gradients(pixels, classes, labels, impl=impl, **options)
    rounding = 1e-6 / min(temperature, 1.0) * max(1.0, classes.square().sum(1).max().item())  # of a logit
    for tensor, plain, exact in zip(result, reference, truth):
        error, allowed = (tensor.double() - exact).norm(), (plain.double() - exact).norm()
        assert error <= 2 * allowed + rounding * exact.norm() + 1e-16  # where the reference underflows to zero


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("num_neighbours", [2, None])
def test_gradients_are_those_of_finite_differences(impl: str, distance: str, num_neighbours: int | None) -> None:
    pixels, classes, labels = problem(8, 6, 3, unit=False, seed=3)

    def loss(pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        options: dict[str, Any] = {"temperature": 0.7, "distance": distance, "scale": 2.0, "impl": impl}
        return cross_entropy(pixels, classes, labels, num_neighbours=num_neighbours, **options)

    assert torch.autograd.gradcheck(loss, (pixels.requires_grad_(), classes.requires_grad_()))


@pytest.mark.parametrize("impl", IMPLS)
def test_plain_distance_has_no_gradient_at_zero_distance(impl: str) -> None:
    classes = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    _, pixel_gradient, class_gradient = value_and_gradients(
        classes[:1], classes, torch.tensor([0]), num_neighbours=2, distance="plain", impl=impl
    )
    assert pixel_gradient.isfinite().all() and not class_gradient[0].any()
    torch.testing.assert_close(pixel_gradient[0], -class_gradient[1])


@pytest.mark.parametrize("impl", FAST_IMPLS)
@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, size) for size in (3, 9, 11, 40, 7))),
    memory_format=st.sampled_from(["contiguous", "channels_last", "part of a larger map", "one vector for all pixels"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    exact=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_maps_of_any_shape_and_strides(
    impl: str, shape: tuple[int, int, int, int, int], memory_format: str, dtype: torch.dtype, exact: bool, seed: int
) -> None:
    images, height, width, num_classes, dim = shape
    pixels, classes, labels = problem(images * height * width, num_classes, dim, seed=seed)
    maps = pixels.to(dtype).view(images, height, width, dim).permute(0, 3, 1, 2)  # channels_last
    if memory_format == "contiguous":
        maps = maps.contiguous()
    elif memory_format == "part of a larger map":
        maps = F.pad(maps, (2, 1, 1, 2))[:, :, 1:-2, 2:-1]
    elif memory_format == "one vector for all pixels":
        maps = maps[:1, :, :1, :1].expand(images, -1, height, width)
    labels, num_neighbours = labels.view(images, height, width), None if exact else min(3, num_classes)
    maps, classes = maps.detach().requires_grad_(), classes.to(dtype).requires_grad_()
    results = []
    for which in (impl, "reference"):
        loss = cross_entropy(maps, classes, labels, num_neighbours=num_neighbours, impl=which)
        results.append((loss, *torch.autograd.grad(loss, (maps, classes))))
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    for result, expected in zip(*results):
        torch.testing.assert_close(result, expected, **tolerance)
    order = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}.get(memory_format)
    assert order is None or results[0][1].is_contiguous(memory_format=order)


@pytest.mark.parametrize("impl", FAST_IMPLS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("num_neighbours", [4, None])
@pytest.mark.parametrize("temperature", [1e-4, 0.05, 1.0])
def test_vectors_far_from_the_origin(impl: str, distance: str, num_neighbours: int | None, temperature: float) -> None:
    """Vectors around 1000 that differ by 0.1, in float32: a product of two of them has no digit of their distance."""
    pixels, classes, labels = problem(200, 20, 12)
    pixels, classes = (0.1 * pixels + 1000).float(), (0.1 * classes + 1000).float()
    options: dict[str, Any] = {"num_neighbours": num_neighbours, "distance": distance, "temperature": temperature, "scale": 1 / temperature}
    truth = value_and_gradients(pixels.double(), classes.double(), labels, impl="reference", **options)
    for result, expected in zip(value_and_gradients(pixels, classes, labels, impl=impl, **options), truth):
        assert relative_error(result, expected) < 1e-5


@pytest.mark.parametrize("impl", FAST_IMPLS)
@pytest.mark.parametrize("length", [1e-3, 30.0])
@pytest.mark.parametrize("num_neighbours", [4, None])
def test_vectors_of_any_length(impl: str, length: float, num_neighbours: int | None) -> None:
    """Logits of ±1e6 and of ±1e-3 for a temperature of 1e-3. One class lies 1e4 away, and takes no digits from the others."""
    pixels, classes, labels = problem(200, 20, 12)
    pixels, classes = (length * pixels).float(), (length * classes).float()
    classes[7] = 1e4
    labels[labels == 7] = 0
    options: dict[str, Any] = {"num_neighbours": num_neighbours, "temperature": 1e-3}
    truth = value_and_gradients(pixels.double(), classes.double(), labels, impl="reference", **options)
    for result, expected in zip(value_and_gradients(pixels, classes, labels, impl=impl, **options), truth):
        assert relative_error(result, expected) < 1e-5
