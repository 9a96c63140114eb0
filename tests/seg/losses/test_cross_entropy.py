"""The losses against closed forms and against dense cross-entropy, and what they make of their inputs."""

import math

import pytest
import torch
import torch.nn.functional as F

from seg.losses import exact_cross_entropy, neighbour_cross_entropy
from tests.seg.losses.loss_problems import DISTANCES, FAST_IMPLS, IMPLS, cross_entropy, problem, relative_error, value_and_gradients

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
