"""What every implementation of the embedding loss owes: closed forms, equality with the reference, and what it makes of its inputs.

Triton's, which needs a GPU or its interpreter, has a file of its own.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import exact_cross_entropy, neighbour_cross_entropy
from tests.seg.losses.loss_problems import DISTANCES, FAST_IMPLS, IMPLS, cross_entropy, problem, relative_error, value_and_gradients


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def in_float32(tensors: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    return [tensor.float() if tensor.is_floating_point() else tensor.clone() for tensor in tensors]


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_two_classes_in_closed_form(impl: str, distance: str) -> None:
    """x lies 0.3 from its class and 0.4 from the other, at right angles."""
    pixels, classes = torch.zeros(1, 2), torch.tensor([[0.3, 0.0], [0.0, 0.4]])
    gap = (0.3**2 - 0.4**2) / 0.05 if distance == "squared" else 20 * (0.3 - 0.4)
    loss = neighbour_cross_entropy(pixels, classes, torch.tensor([0]), num_neighbours=2, distance=distance, impl=impl)
    assert loss.item() == pytest.approx(math.log1p(math.exp(gap)), rel=1e-5)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_target_that_is_its_own_only_neighbour_costs_nothing(impl: str, distance: str) -> None:
    """Counted twice, as in the paper's Algorithm 1 read literally, it would cost ln 2."""
    classes = torch.eye(4)
    loss, pixel_gradient, class_gradient = value_and_gradients(
        classes, classes, torch.arange(4), num_neighbours=1, distance=distance, impl=impl
    )
    assert loss == 0 and not pixel_gradient.any() and not class_gradient.any()


@pytest.mark.parametrize("impl", IMPLS)
def test_a_target_outside_the_neighbours_joins_them(impl: str) -> None:
    pixels, classes = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    loss = neighbour_cross_entropy(pixels, classes, torch.tensor([1]), num_neighbours=1, temperature=1.0, impl=impl)
    assert loss.item() == pytest.approx(math.log1p(math.exp(2.0)))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_of_equal_embeddings_the_lower_id_is_nearer(impl: str, distance: str) -> None:
    """With k = 1 the lower of two twins is its own only neighbour; the higher one has the lower beside it, at the same distance."""
    classes = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    for target, expected in ((1, 0.0), (2, math.log(2))):
        loss = neighbour_cross_entropy(
            torch.tensor([[0.9, 0.1]]), classes, torch.tensor([target]), num_neighbours=1, distance=distance, impl=impl
        )
        assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("num_neighbours", [3, 5, None])
def test_equally_near_classes_share_the_probability(impl: str, distance: str, num_neighbours: int | None) -> None:
    """A pixel in the middle of six classes: −log of one over the number of candidates."""
    classes = torch.cat([torch.eye(3), -torch.eye(3)])
    loss = cross_entropy(torch.zeros(1, 3), classes, torch.tensor([5]), num_neighbours=num_neighbours, distance=distance, impl=impl)
    assert loss.item() == pytest.approx(math.log(6 if num_neighbours is None else num_neighbours + 1))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_single_class_costs_nothing(impl: str, distance: str) -> None:
    result = value_and_gradients(
        torch.ones(3, 2), torch.zeros(1, 2), torch.zeros(3, dtype=torch.long), num_neighbours=None, distance=distance, impl=impl
    )
    assert not any(tensor.any() for tensor in result)


@pytest.mark.parametrize("impl", IMPLS)
def test_all_classes_as_neighbours_is_dense_cross_entropy(impl: str) -> None:
    pixels, classes, labels = problem(100, 9, 7)
    dense = F.cross_entropy(-torch.cdist(pixels, classes).square() / 0.05, labels, ignore_index=-1)
    for num_neighbours in (9, None):
        torch.testing.assert_close(cross_entropy(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl), dense)


@pytest.mark.parametrize("impl", FAST_IMPLS)
def test_late_in_training_the_loss_keeps_its_digits(impl: str) -> None:
    """e⁻⁴⁰ vanishes beside the 1 of the target in float32. (The reference keeps the target in its sum, and needs float64 here.)"""
    classes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss, _, class_gradient = value_and_gradients(classes[:1], classes, torch.tensor([0]), num_neighbours=2, impl=impl)
    assert loss.item() == pytest.approx(math.exp(-40), rel=1e-5)
    assert class_gradient[1].norm().item() == pytest.approx(40 * math.sqrt(2) * math.exp(-40), rel=1e-5)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("temperature", [0.2, 0.06, 0.05, 0.045, 0.04, 0.035, 0.032, 0.03, 0.01])
@pytest.mark.parametrize("exact", [True, False])
def test_a_pixel_opposite_its_class(impl: str, distance: str, temperature: float, exact: bool) -> None:
    """Its loss is 4 / temperature, in float32 too: no power of two on the way may leave the number range."""
    classes = torch.cat([torch.eye(12), -torch.eye(12)])
    pixels, labels = torch.stack([-classes[0]] * 40), torch.zeros(40, dtype=torch.long)
    options: dict[str, Any] = {"temperature": temperature, "distance": distance, "scale": 2 / temperature, "impl": impl}
    loss, pixel_gradient, class_gradient = value_and_gradients(pixels, classes, labels, num_neighbours=None if exact else 2, **options)
    assert loss.item() == pytest.approx(4 / temperature, rel=1e-4)
    assert pixel_gradient.isfinite().all() and class_gradient.isfinite().all()


# ---------------------------------------------------------------- the reference


@pytest.mark.parametrize("impl", FAST_IMPLS)
@settings(max_examples=40, deadline=None)
@given(
    num_classes=st.integers(1, 30),
    dim=st.sampled_from([1, 2, 7, 12, 16, 33, 64]),
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
    reach = max(1.0, classes.norm(dim=1).max().item())
    rounding = 1e-6 / min(temperature, 1.0) * reach**2  # of a logit
    # gradient of a single pixel's loss: where the gradients of classes or pixels cancel, these digits are lost
    steepest = (2 * reach if distance == "squared" else 1) / temperature
    for tensor, plain, exact in zip(result, reference, truth):
        error, allowed = (tensor.double() - exact).norm(), (plain.double() - exact).norm()
        assert error <= 2 * allowed + rounding * exact.norm() + torch.finfo(torch.float32).eps * steepest


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


# ---------------------------------------------------------------- inputs


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("num_neighbours", [3, None])
def test_maps_equal_their_flattened_pixels(impl: str, num_neighbours: int | None) -> None:
    pixels, classes, labels = problem(2 * 3 * 5, 6, 4)
    maps = pixels.view(2, 3, 5, 4).permute(0, 3, 1, 2)
    flat = value_and_gradients(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl)
    mapped = value_and_gradients(maps, classes, labels.view(2, 3, 5), num_neighbours=num_neighbours, impl=impl)
    torch.testing.assert_close(mapped[0], flat[0])
    torch.testing.assert_close(mapped[1].permute(0, 2, 3, 1).reshape(-1, 4), flat[1])
    torch.testing.assert_close(mapped[2], flat[2])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("num_neighbours", [3, None])
def test_ignored_pixels_change_nothing_and_inputs_stay(impl: str, num_neighbours: int | None) -> None:
    pixels, classes, labels = problem(40, 6, 4)
    labels[5] = -1
    pixels[5] = torch.nan
    before = [tensor.clone() for tensor in (pixels, classes, labels)]
    loss, pixel_gradient, _ = value_and_gradients(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl)
    kept = labels >= 0
    torch.testing.assert_close(loss, cross_entropy(pixels[kept], classes, labels[kept], num_neighbours=num_neighbours, impl=impl))
    assert not pixel_gradient[~kept].any()
    relabelled = torch.where(labels < 0, 255, labels)
    assert cross_entropy(pixels, classes, relabelled, num_neighbours=num_neighbours, impl=impl, ignore_index=255) == loss
    for tensor, copy in zip((pixels, classes, labels), before):
        torch.testing.assert_close(tensor, copy, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("num_neighbours", [3, None])
def test_a_valid_pixel_that_is_not_a_number_shows(impl: str, num_neighbours: int | None) -> None:
    pixels, classes, labels = problem(40, 6, 4)
    labels[5], pixels[5] = 2, torch.nan
    assert cross_entropy(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl).isnan()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("num_neighbours", [3, None])
def test_no_valid_pixel_gives_zero_and_zero_gradients(impl: str, num_neighbours: int | None) -> None:
    pixels, classes, _ = problem(10, 4, 3)
    pixels[0] = torch.inf
    loss, pixel_gradient, class_gradient = value_and_gradients(
        pixels, classes, torch.full((10,), -1), num_neighbours=num_neighbours, impl=impl
    )
    assert loss == 0 and not pixel_gradient.any() and not class_gradient.any()


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("num_neighbours", [4, None])
def test_half_precision_is_computed_in_float32(impl: str, dtype: torch.dtype, num_neighbours: int | None) -> None:
    pixels, classes, labels = problem(60, 9, 7)
    pixels, classes = pixels.to(dtype), classes.to(dtype)
    loss, pixel_gradient, class_gradient = value_and_gradients(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl)
    exact = value_and_gradients(pixels.double(), classes.double(), labels, num_neighbours=num_neighbours, impl="reference")
    assert loss.dtype == torch.float32 and pixel_gradient.dtype == class_gradient.dtype == dtype
    assert relative_error(loss, exact[0]) < 1e-5
    assert relative_error(pixel_gradient, exact[1]) < torch.finfo(dtype).eps
    assert relative_error(class_gradient, exact[2]) < torch.finfo(dtype).eps


def test_both_searches_give_the_same_loss() -> None:
    pixels, classes, labels = (part if part.dtype == torch.int64 else part.float() for part in problem(500, 40, 7))
    by_torch, by_faiss = (value_and_gradients(pixels, classes, labels, num_neighbours=5, search=search) for search in ("torch", "faiss"))
    for ours, theirs in zip(by_torch, by_faiss):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([0, 7])}, "label 7 is outside the 4 classes; expected 0 to 3, or -1 for ignored pixels"),
        ({"labels": torch.tensor([-2, 1])}, "label -2 is outside"),
        ({"labels": torch.tensor([0, 1, 2])}, "do not belong together"),
        ({"labels": torch.tensor([0.0, 1.0])}, "expected integers"),
        ({"num_neighbours": 5}, "the 5 nearest of 4 classes"),
        ({"impl": "fast"}, "unknown loss implementation 'fast'; choose one of auto, reference, chunked"),
        ({"search": "exact"}, "unknown search backend 'exact'; choose one of auto, torch, faiss"),
        ({"distance": "cosine"}, "unknown distance 'cosine'"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
    ],
)
def test_refusals(change: dict[str, object], message: str) -> None:
    options: dict[str, object] = {"labels": torch.tensor([0, 1]), "num_neighbours": 2} | change
    labels = options.pop("labels")
    with pytest.raises(ValueError, match=message):
        neighbour_cross_entropy(torch.eye(4)[:2], torch.eye(4), labels, **options)  # type: ignore[arg-type]


def test_a_retained_graph_gives_the_same_gradients_again() -> None:
    pixels, classes, labels = problem(30, 6, 4)
    loss = exact_cross_entropy(pixels.requires_grad_(), classes.requires_grad_(), labels)
    first = torch.autograd.grad(loss, (pixels, classes), retain_graph=True)
    second = torch.autograd.grad(3 * loss, (pixels, classes))
    for once, thrice in zip(first, second):
        torch.testing.assert_close(3 * once, thrice)


@pytest.mark.parametrize("impl", FAST_IMPLS)
def test_of_equal_classes_the_first_are_neighbours(impl: str) -> None:
    classes = F.normalize(torch.randn(3, 12, generator=torch.Generator().manual_seed(0)), dim=1)[torch.tensor([1, 0, 2, 0, 0, 0])]
    for pixel, pulled in ((classes[1:2], [2]), (classes[1:2] + 0.01, [1, 2, 3])):  # of the pixel's own place nothing pulls
        _, _, gradient = value_and_gradients(pixel, classes, torch.tensor([2]), num_neighbours=2, temperature=1.0, impl=impl)
        assert gradient.any(1).nonzero().squeeze(1).tolist() == pulled


@pytest.mark.parametrize("impl", FAST_IMPLS)
@pytest.mark.parametrize("num_neighbours", [3, None])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_valid_pixel_that_is_not_finite_spoils_the_loss_and_no_other_pixel(impl: str, num_neighbours: int | None, bad: float) -> None:
    pixels, classes, labels = in_float32(problem(90, 9, 7))
    labels[4] = 0
    _, expected, _ = value_and_gradients(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl)
    pixels[4, 2] = bad
    loss, gradient, _ = value_and_gradients(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl)
    others = torch.arange(90) != 4
    assert not loss.isfinite() and gradient[4].isnan().any()
    torch.testing.assert_close(gradient[others], expected[others])


@pytest.mark.parametrize("impl", FAST_IMPLS)
@pytest.mark.parametrize("num_neighbours", [3, None])
def test_a_class_that_is_not_a_number_spoils_the_loss(impl: str, num_neighbours: int | None) -> None:
    pixels, classes, labels = in_float32(problem(50, 9, 7))
    classes[8], labels = torch.nan, labels.clamp_max(3)
    assert cross_entropy(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl).isnan()


@pytest.mark.parametrize("impl", FAST_IMPLS)
@pytest.mark.parametrize("num_neighbours", [5, None])
def test_any_strides_and_integer_types_give_the_same(impl: str, num_neighbours: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = F.normalize(torch.randn(2, 7, 9, 11, generator=generator), dim=1)
    labels = torch.randint(-1, 20, (2, 9, 11), generator=generator)
    classes = F.normalize(torch.randn(20, 7, generator=generator), dim=1)
    expected = value_and_gradients(maps, classes, labels, num_neighbours=num_neighbours, impl=impl)
    wide = torch.zeros(2, 7, 9, 22)
    wide[..., ::2] = maps
    for strided in (maps.to(memory_format=torch.channels_last), wide[..., ::2], maps.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)):
        leaf, leaf_classes = strided.detach().requires_grad_(), classes.T.contiguous().T.requires_grad_()
        loss = cross_entropy(leaf, leaf_classes, labels.to(torch.int16), num_neighbours=num_neighbours, impl=impl)
        loss.backward()
        assert leaf.grad is not None and leaf_classes.grad is not None
        for result, same in zip((loss.detach(), leaf.grad, leaf_classes.grad), expected):
            torch.testing.assert_close(result, same, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("impl", FAST_IMPLS)
@pytest.mark.parametrize("num_neighbours", [3, None])
def test_the_value_alone_is_that_with_gradients(impl: str, num_neighbours: int | None) -> None:
    pixels, classes, labels = in_float32(problem(9000, 30, 5))
    with_gradients, _, _ = value_and_gradients(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl)
    assert cross_entropy(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl) == with_gradients


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("num_neighbours", [3, None])
@pytest.mark.parametrize("weighted", [False, True])
def test_pixels_that_the_caller_has_counted(impl: str, num_neighbours: int | None, weighted: bool) -> None:
    pixels, classes, labels = problem(60, 9, 5)
    weights = torch.rand(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64) if weighted else None
    total = float((labels >= 0).sum() if weights is None else weights[labels[labels >= 0]].sum())
    options: dict[str, Any] = {"num_neighbours": num_neighbours, "impl": impl, "class_weights": weights}
    counted = value_and_gradients(pixels, classes, labels, total_weight=total, **options)
    for result, expected in zip(counted, value_and_gradients(pixels, classes, labels, **options)):
        torch.testing.assert_close(result, expected)
    half = cross_entropy(pixels, classes, labels, total_weight=2 * total, **options)
    torch.testing.assert_close(half, counted[0] / 2)


# ---------------------------------------------------------------- what torch may put around


@pytest.mark.parametrize("impl", FAST_IMPLS)
@pytest.mark.parametrize("num_neighbours", [3, None])
def test_a_number_of_threads_gives_the_same_bits_every_time(
    set_threads: Callable[[int], None], impl: str, num_neighbours: int | None
) -> None:
    set_threads(3)
    pixels, classes, labels = in_float32(problem(20_000, 12, 5))
    first, second = (value_and_gradients(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl) for _ in range(2))
    for once, again in zip(first, second):
        assert torch.equal(once, again)


@pytest.mark.parametrize("impl", FAST_IMPLS)
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("num_neighbours", [3, None])
def test_autocast_inference_mode_and_the_matmul_setting_change_nothing(
    set_threads: Callable[[int], None], impl: str, num_threads: int, num_neighbours: int | None
) -> None:
    set_threads(num_threads)
    pixels, classes, labels = in_float32(problem(3000, 9, 5))
    expected = value_and_gradients(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            result = value_and_gradients(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    for tensor, same in zip(result, expected):
        assert torch.equal(tensor, same)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(cross_entropy(pixels, classes, labels, num_neighbours=num_neighbours, impl=impl), expected[0])
