"""The losses against closed forms, against dense cross-entropy, and the implementations against the reference."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from seg.losses import IMPLEMENTATIONS, class_cross_entropy, class_separation, exact_cross_entropy, neighbour_cross_entropy
from seg.neighbours import pixels_per_chunk
from shared.errors import InputError

FAST_IMPLS = list(IMPLEMENTATIONS)
IMPLS = ["reference", *FAST_IMPLS]
DISTANCES = ["squared", "plain"]


def problem(
    num_pixels: int, num_classes: int, dim: int, *, unit: bool = True, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels near the embedding of their class, in float64, as in the middle of a training; some are ignored."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(num_classes, dim, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (num_pixels,), generator=generator)
    pixels = classes[labels] + 0.5 * torch.randn(num_pixels, dim, generator=generator, dtype=torch.float64)
    labels[torch.rand(num_pixels, generator=generator) < 0.2] = -1
    if unit:
        pixels, classes = F.normalize(pixels, dim=1), F.normalize(classes, dim=1)
    return pixels, classes, labels


def cross_entropy(
    pixels: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor, *, num_neighbours: int | None, **options: Any
) -> torch.Tensor:
    """Either loss: `num_neighbours` None is the one over all classes."""
    if num_neighbours is None:
        return exact_cross_entropy(pixels, classes, labels, **options)
    return neighbour_cross_entropy(pixels, classes, labels, num_neighbours=num_neighbours, **options)


def value_and_gradients(
    pixels: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor, **options: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    pixels, classes = pixels.detach().clone().requires_grad_(), classes.detach().clone().requires_grad_()
    loss = cross_entropy(pixels, classes, labels, **options)
    loss.backward()
    assert pixels.grad is not None and classes.grad is not None
    return loss.detach(), pixels.grad, classes.grad


def relative_error(result: torch.Tensor, truth: torch.Tensor) -> float:
    return float((result.double() - truth).norm() / truth.norm().clamp_min(1e-30))


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


# ---------------------------------------------------------------- against the reference


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


def test_several_chunks_equal_one() -> None:
    num_pixels = 2 * pixels_per_chunk(4 * 3, torch.device("cpu")) + 17
    pixels, classes, labels = problem(num_pixels, 8, 3)
    for result, expected in zip(
        value_and_gradients(pixels, classes, labels, num_neighbours=3, impl="chunked"),
        value_and_gradients(pixels, classes, labels, num_neighbours=3, impl="reference"),
    ):
        torch.testing.assert_close(result, expected)


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


# ---------------------------------------------------------------- regulariser and baseline


def test_separation_in_closed_form() -> None:
    """Two classes 0.1 apart cost 0.1 each at a margin of 0.2, the far one nothing."""
    classes = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0]], requires_grad=True)
    loss = class_separation(classes, margin=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0.2 / 3)
    assert classes.grad is not None
    torch.testing.assert_close(classes.grad, torch.tensor([[2 / 3, 0.0], [-2 / 3, 0.0], [0.0, 0.0]]))


@settings(max_examples=20, deadline=None)
@given(num_classes=st.integers(2, 60), dim=st.sampled_from([1, 3, 12]), seed=st.integers(0, 1000))
def test_separation_equals_all_pairs(num_classes: int, dim: int, seed: int) -> None:
    classes = torch.randn(num_classes, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pairs = (classes[:, None] - classes).norm(dim=-1).fill_diagonal_(torch.inf)
    torch.testing.assert_close(class_separation(classes, margin=1.0), (1 - pairs.amin(1)).clamp_min(0).mean())


def test_separation_of_equal_embeddings_is_the_margin_and_finite() -> None:
    classes = torch.ones(5, 3, requires_grad=True)
    loss = class_separation(classes)
    loss.backward()
    assert loss.item() == pytest.approx(0.2)
    assert classes.grad is not None and not classes.grad.any()
    assert class_separation(torch.ones(1, 3)) == 0


def test_class_cross_entropy() -> None:
    logits, labels = torch.randn(2, 5, 3, 4, requires_grad=True), torch.randint(-1, 5, (2, 3, 4))
    torch.testing.assert_close(class_cross_entropy(logits, labels), F.cross_entropy(logits, labels, ignore_index=-1))
    empty = class_cross_entropy(logits, torch.full_like(labels, -1))
    empty.backward()
    assert empty == 0 and logits.grad is not None and not logits.grad.any()
    with pytest.raises(InputError, match="label 5 is outside the 5 classes"):
        class_cross_entropy(logits, torch.full_like(labels, 5))
