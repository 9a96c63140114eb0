"""The Triton kernels against the reference: in Triton's interpreter, which needs no GPU, and on a GPU where there is one."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from seg.losses import triton as losses_triton
from seg.losses.chunked import chunked_loss
from seg.losses.objective import LossAndGradients, Objective
from seg.losses.reference import reference_cross_entropy
from seg.losses.triton import triton_loss
from seg.neighbours.shortlist import search_by_shortlist
from seg.neighbours.triton import triton_best_classes, triton_shortlist
from shared.errors import InputError
from tests.test_synchronisation import looks_counted
from tests.triton_interpreter import DEVICE, INTERPRETED, of_kernels, on_gpu, outside, run_in_interpreter

pytest.importorskip("triton")

# Gradients come through products of bfloat16 in two parts; the interpreter cuts the second part where a GPU rounds it.
SPLIT_ERROR = 6e-5 if INTERPRETED else 3e-5


@pytest.mark.long
@outside
def test_the_kernels_in_the_interpreter() -> None:
    run_in_interpreter(__file__)


@outside
def test_cpu_tensors_are_refused() -> None:
    pixels, classes, labels = torch.zeros(1, 4, 3), torch.eye(4), torch.zeros(1, 3, dtype=torch.int64)
    message = "'triton' needs a CUDA device, and the pixel embeddings are on cpu; choose chunked or numba, or 'auto'"
    for call in (
        lambda: triton_loss(pixels, classes, labels, objective_of(labels), True),
        lambda: triton_shortlist(pixels[0].T, classes, 2),
        lambda: triton_best_classes(pixels, classes),
    ):
        with pytest.raises(InputError, match=message):
            call()


def problem(num_classes: int, dim: int, shape: tuple[int, int] = (2, 140), *, unit: bool = True, seed: int = 0) -> list[torch.Tensor]:
    """Pixels (N, D, S) near the embedding of their class, classes and labels; some are ignored. S is no multiple of a block."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(num_classes, dim, generator=generator)
    labels = torch.randint(num_classes, shape, generator=generator)
    pixels = classes[labels] + 0.5 * torch.randn(*shape, dim, generator=generator)
    labels[torch.rand(shape, generator=generator) < 0.2] = -1
    if unit:
        pixels, classes = F.normalize(pixels, dim=2), F.normalize(classes, dim=1)
    return [part.to(DEVICE) for part in (pixels.transpose(1, 2), classes, labels)]


def objective_of(
    labels: torch.Tensor, num_neighbours: int | None = None, distance: str = "squared", temperature: float = 0.05, ignore_index: int = -1
) -> Objective:
    return Objective(num_neighbours, distance, 1 / temperature, ignore_index, int((labels != ignore_index).sum()), "torch")


def by_reference(pixels: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor, objective: Objective) -> LossAndGradients:
    pixels, classes = pixels.clone().requires_grad_(), classes.clone().requires_grad_()
    loss = reference_cross_entropy(pixels, classes, labels, objective)
    return LossAndGradients(loss.detach(), torch.autograd.grad(loss, (pixels, classes)))


def flat(result: LossAndGradients) -> tuple[torch.Tensor, ...]:
    return result.loss, *result.gradients


def distance_to(result: torch.Tensor, truth: torch.Tensor) -> float:
    return float((result.double() - truth).norm())


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Bit for bit in the interpreter. A GPU has a program of its own for each type, stride and option, whose additions and multiplications
    are fused in other places, and adds up what `chunked_loss` scatters in no fixed order."""
    if INTERPRETED:
        assert torch.equal(ours, theirs)
    else:
        assert float((ours - theirs).norm()) <= 1e-5 * float(theirs.norm())


def assert_equals_the_reference(pixels: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor, objective: Objective) -> None:
    """As near to the truth as the reference in float32, or a few roundings more: of a logit, and of the products of the gradients."""
    truth = by_reference(pixels.double(), classes.double(), labels, objective)
    plain = by_reference(pixels.float(), classes.float(), labels, objective)
    result = triton_loss(pixels, classes, labels, objective, True)
    rounding = 1e-6 * max(1.0, objective.sharpness * float(classes.float().square().sum(1).max()))
    assert result.loss.dtype == torch.float32
    assert distance_to(result.loss, truth.loss) <= 2 * distance_to(plain.loss, truth.loss) + rounding * float(truth.loss)
    for ours, reference, exact in zip(result.gradients, plain.gradients, truth.gradients, strict=True):
        assert ours.dtype == torch.float32 and ours.shape == exact.shape
        assert distance_to(ours, exact) <= 2 * distance_to(reference, exact) + (rounding + SPLIT_ERROR) * float(exact.norm())


# ---------------------------------------------------------------- the loss against the reference


@of_kernels
@pytest.mark.parametrize(
    ("num_classes", "dim", "num_neighbours", "distance", "temperature", "unit"),
    [
        (20, 12, None, "squared", 0.05, True),
        (150, 7, None, "squared", 0.05, True),
        (70, 16, None, "squared", 0.1, True),
        (40, 33, None, "squared", 0.5, True),
        (9, 2, None, "squared", 10.0, False),
        (1, 12, None, "squared", 0.05, True),
        (30, 12, None, "plain", 0.05, True),
        (20, 7, None, "squared", 1e-4, False),
        (20, 12, 1, "squared", 0.05, True),
        (150, 16, 8, "squared", 0.05, True),
        (50, 64, 32, "squared", 0.5, True),
        (20, 33, 3, "plain", 0.5, False),
        (30, 2, 29, "plain", 0.05, True),
        (70, 12, 5, "squared", 1e-4, True),
    ],
)
def test_equals_the_reference(
    num_classes: int, dim: int, num_neighbours: int | None, distance: str, temperature: float, unit: bool
) -> None:
    pixels, classes, labels = problem(num_classes, dim, (1, 140), unit=unit)
    assert_equals_the_reference(pixels, classes, labels, objective_of(labels, num_neighbours, distance, temperature))


@of_kernels
@pytest.mark.parametrize("num_neighbours", [None, 4])
@pytest.mark.parametrize("distance", ["squared", "plain"])
def test_class_weights(num_neighbours: int | None, distance: str) -> None:
    """Some classes weigh nothing, some a hundred times as much as others."""
    pixels, classes, labels = problem(20, 12)
    weights = torch.logspace(-1, 1, 20, device=DEVICE)
    weights[::5] = 0
    total = float(weights[labels[labels >= 0]].sum())
    objective = replace(objective_of(labels, num_neighbours, distance), class_weights=weights, total_weight=total)
    assert_equals_the_reference(pixels, classes, labels, objective)


@of_kernels
@pytest.mark.parametrize("num_neighbours", [None, 4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, num_neighbours: int | None) -> None:
    pixels, classes, labels = problem(20, 12, (1, 90))
    assert_equals_the_reference(pixels.to(dtype), classes.to(dtype), labels, objective_of(labels, num_neighbours))


@of_kernels
@pytest.mark.parametrize("distance", ["squared", "plain"])
@pytest.mark.parametrize("num_neighbours", [1, 3])
def test_ties_go_to_the_lowest_ids(num_neighbours: int, distance: str) -> None:
    """Every class three times: which of them are neighbours decides the class gradient."""
    pixels, classes, labels = problem(7, 5, (1, 60))
    classes = classes.repeat(3, 1)
    labels = torch.where(labels < 0, labels, labels + 7 * torch.arange(60, device=DEVICE).remainder(3))
    assert_equals_the_reference(pixels, classes, labels, objective_of(labels, num_neighbours, distance))


@of_kernels
@pytest.mark.parametrize("distance", ["squared", "plain"])
def test_a_target_that_is_its_own_only_neighbour_costs_nothing(distance: str) -> None:
    classes, labels = torch.eye(20, device=DEVICE), torch.arange(20, device=DEVICE)[None]
    result = triton_loss(classes[None], classes, labels, objective_of(labels, 1, distance), True)
    assert result.loss == 0 and not result.gradients[0].any() and not result.gradients[1].any()


@of_kernels
def test_late_in_training_the_loss_keeps_its_digits() -> None:
    """e⁻⁴⁰ vanishes beside the 1 of the target in float32."""
    classes, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]], device=DEVICE), torch.zeros(1, 1, dtype=torch.int64, device=DEVICE)
    loss, (_, class_gradient) = triton_loss(classes[:1].T[None], classes, labels, objective_of(labels), True)
    assert loss.item() == pytest.approx(math.exp(-40), rel=2e-5)
    assert class_gradient[1].norm().item() == pytest.approx(40 * math.sqrt(2) * math.exp(-40), rel=5e-5)


@of_kernels
@pytest.mark.parametrize("num_neighbours", [None, 2])
@pytest.mark.parametrize("length", [0.0, 1e-10, 1e15])
def test_vectors_of_any_length(length: float, num_neighbours: int | None) -> None:
    """From all-zero vectors, where every class is tied, to squares near the end of the number range."""
    pixels, classes, labels = problem(9, 4, (1, 40))
    pixels, classes = length * pixels, length * classes
    objective = objective_of(labels, num_neighbours, temperature=length**2 or 1.0)
    assert_equals_the_reference(pixels, classes, labels, objective)


# ---------------------------------------------------------------- inputs and outputs


@of_kernels
@pytest.mark.parametrize("distance", ["squared", "plain"])
@pytest.mark.parametrize("num_neighbours", [None, 3])
def test_ignored_pixels_change_nothing(num_neighbours: int | None, distance: str) -> None:
    """Whole blocks and single pixels, whatever they hold, and whatever the labels' type is."""
    pixels, classes, labels = problem(12, 5, (2, 300))
    labels[0, 128:], labels[1, 3] = -1, -1
    ignored = (labels < 0)[:, None].expand_as(pixels)
    clean = triton_loss(pixels.masked_fill(ignored, 0), classes, labels, objective_of(labels, num_neighbours, distance), True)
    dirty = torch.where(ignored, torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, 0.0], device=DEVICE)[:, None], pixels)
    labels = torch.where(labels < 0, 255, labels).to(torch.uint8)
    result = triton_loss(dirty, classes, labels, objective_of(labels, num_neighbours, distance, ignore_index=255), True)
    for ours, expected in zip(flat(result), flat(clean)):
        assert_same(ours, expected)
    assert not result.gradients[0][ignored].any()


@of_kernels
@pytest.mark.parametrize("num_neighbours", [None, 3])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_valid_pixel_that_is_no_number_shows(value: float, num_neighbours: int | None) -> None:
    pixels, classes, labels = problem(12, 5, (1, 40))
    labels[0, 3] = 1
    pixels[0, 2, 3] = value
    assert triton_loss(pixels, classes, labels, objective_of(labels, num_neighbours), True).loss.isnan()


@of_kernels
def test_any_strides() -> None:
    """The gradient has the memory order of the pixels."""
    pixels, classes, labels = problem(12, 5)
    expected = triton_loss(pixels.contiguous(), classes, labels, objective_of(labels), True)
    room = torch.full((2, 280, 9), torch.nan, device=DEVICE)
    room[:, ::2, 1:6] = pixels.transpose(1, 2)
    wide = torch.zeros(140, 2, dtype=torch.int32, device=DEVICE)
    wide.T.copy_(labels)
    for view in (pixels, room[:, ::2, 1:6].transpose(1, 2), pixels.permute(2, 1, 0).contiguous().permute(2, 1, 0)):
        result = triton_loss(view, classes.T.contiguous().T, wide.T, objective_of(labels), True)
        for ours, contiguous in zip(flat(result), flat(expected)):
            assert_same(ours, contiguous)
        assert result.gradients[0].stride() == torch.zeros_like(view).stride()


@of_kernels
@pytest.mark.parametrize("num_neighbours", [None, 3])
def test_without_gradients_the_loss_is_the_same(num_neighbours: int | None) -> None:
    pixels, classes, labels = problem(12, 5)
    objective = objective_of(labels, num_neighbours)
    result = triton_loss(pixels, classes, labels, objective, False)
    assert result.gradients == ()
    assert_same(result.loss, triton_loss(pixels, classes, labels, objective, True).loss)


@of_kernels
@pytest.mark.parametrize("num_neighbours", [None, 3])
def test_several_chunks_equal_one(monkeypatch: pytest.MonkeyPatch, num_neighbours: int | None) -> None:
    pixels, classes, labels = problem(12, 5, (2, 200))
    objective = objective_of(labels, num_neighbours)
    expected = triton_loss(pixels, classes, labels, objective, True)
    monkeypatch.setattr(losses_triton, "_RECORD_ELEMENTS", 16 * 128)
    for ours, in_one in zip(flat(triton_loss(pixels, classes, labels, objective, True)), flat(expected)):
        torch.testing.assert_close(ours, in_one, rtol=1e-5, atol=1e-7)


@of_kernels
@pytest.mark.parametrize("change", ["float64", "wide", "many neighbours"])
def test_what_the_kernels_do_not_take_is_chunked(change: str) -> None:
    pixels, classes, labels = problem(50, 65 if change == "wide" else 5, (1, 40))
    if change == "float64":
        pixels = pixels.double()
    objective = objective_of(labels, 33 if change == "many neighbours" else None)
    for ours, expected in zip(
        flat(triton_loss(pixels, classes, labels, objective, True)), flat(chunked_loss(pixels, classes, labels, objective, True))
    ):
        assert_same(ours, expected)


# ---------------------------------------------------------------- search


@of_kernels
@pytest.mark.parametrize(("num_classes", "dim", "k"), [(9, 2, 1), (70, 12, 8), (40, 33, 32), (70, 5, 66)])
@pytest.mark.parametrize("kind", ["plain", "duplicated", "of many lengths"])
def test_the_search_is_exact_and_ties_go_to_the_lowest_ids(num_classes: int, dim: int, k: int, kind: str) -> None:
    pixels, classes, _ = problem(num_classes, dim, (1, 70), unit=False)
    if kind == "duplicated":
        classes[num_classes // 2 :] = classes[: num_classes - num_classes // 2].clone()
    if kind == "of many lengths":
        pixels = pixels * torch.logspace(-6, 6, 70, device=DEVICE)
    ids, distances = search_by_shortlist(triton_shortlist, pixels[0].T, classes, k)
    squared = (pixels[0].T[:, None] - classes).square().sum(2)
    expected, order = squared.sort(dim=1, stable=True)
    torch.testing.assert_close(distances, expected[:, :k], rtol=1e-5, atol=1e-6)
    assert torch.equal(squared.gather(1, ids), squared.gather(1, order[:, :k]))
    if kind == "duplicated":
        assert torch.equal(ids, order[:, :k])


@of_kernels
def test_the_best_class_of_maps() -> None:
    pixels, classes, _ = problem(70, 7)
    classes[40] = classes[3]
    ids = triton_best_classes(pixels, classes)
    assert ids.dtype == torch.int64 and torch.equal(ids, (classes.double() @ pixels.double()).argmax(1))
    assert (ids == 3).any() and not (ids == 40).any()
    assert torch.equal(triton_best_classes(pixels.half(), classes.half()), (classes.half().double() @ pixels.half().double()).argmax(1))
    assert triton_best_classes(pixels[:0], classes).shape == (0, 140)


# ---------------------------------------------------------------- on a GPU, at sizes of use


def large_problem(num_classes: int, dim: int, num_pixels: int) -> list[torch.Tensor]:
    return problem(num_classes, dim, (2, num_pixels // 2))


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("num_classes", "dim", "num_pixels"), [(19, 12, 100_001), (1284, 12, 20_000), (1284, 64, 4000), (10_000, 16, 2000)]
)
@pytest.mark.parametrize("num_neighbours", [None, 8])
def test_large_problems_equal_the_reference(
    num_neighbours: int | None, num_classes: int, dim: int, num_pixels: int, dtype: torch.dtype
) -> None:
    pixels, classes, labels = large_problem(num_classes, dim, num_pixels)
    assert_equals_the_reference(pixels.to(dtype), classes.to(dtype), labels, objective_of(labels, num_neighbours))


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("num_neighbours", [None, 8])
def test_repeatable_and_within_its_memory_at_the_size_of_the_paper(num_neighbours: int | None) -> None:
    pixels, classes, labels = large_problem(1284, 12, 10 * 450 * 450)
    objective = objective_of(labels, num_neighbours)
    first = triton_loss(pixels, classes, labels, objective, True)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    second = triton_loss(pixels, classes, labels, objective, True)
    assert torch.cuda.max_memory_allocated() - before <= 3 * pixels.numel() * 4
    for once, again in zip(flat(first), flat(second)):
        if num_neighbours is None:
            assert torch.equal(once, again)
        else:
            assert_same(once, again)  # ties are left to `chunked_loss`


@on_gpu
@pytest.mark.gpu
def test_more_elements_than_an_int32_can_count() -> None:
    """One image many times: the same loss, and a share of the gradient."""
    pixels, classes, labels = problem(19, 12, (1, 2**20))
    one = triton_loss(pixels, classes, labels, objective_of(labels), True)
    copies = 2**31 // (12 * 2**20) + 2
    many_labels = labels.expand(copies, -1)
    many = triton_loss(pixels.expand(copies, -1, -1), classes, many_labels, objective_of(many_labels), True)
    torch.testing.assert_close(many.loss, one.loss)
    torch.testing.assert_close(many.gradients[0][-1] * copies, one.gradients[0][0], rtol=1e-4, atol=1e-10)
    torch.testing.assert_close(many.gradients[1], one.gradients[1], rtol=1e-3, atol=1e-6)


@on_gpu
@pytest.mark.gpu
def test_a_device_that_is_not_the_current_one() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    pixels, classes, labels = (part.to("cuda:1") for part in problem(19, 12))
    with torch.cuda.device(0):
        assert_equals_the_reference(pixels, classes, labels, objective_of(labels, 4))


# ---------------------------------------------------------------- the check before they are taken


@of_kernels
@pytest.mark.parametrize("num_neighbours", [None, 6])
@pytest.mark.parametrize(("distance", "bounded"), [("squared", True), ("squared", False), ("plain", False)])
def test_the_check_passes(num_neighbours: int | None, distance: str, bounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    choose = losses_triton._Evaluation._choose_logits

    def choose_and_tell(evaluation: losses_triton._Evaluation) -> None:
        choose(evaluation)
        seen.append(evaluation.bounded)

    monkeypatch.setattr(losses_triton._Evaluation, "_choose_logits", choose_and_tell)
    kind = {"dim": 12, "num_classes": 12, "distance": distance, "bounded": bounded, "dtype": torch.bfloat16}
    assert losses_triton.triton_agrees.__wrapped__(torch.device(DEVICE), num_neighbours, **kind)
    assert seen == [bounded]


@of_kernels
@pytest.mark.parametrize("length", [1.0, 2.0])
def test_each_kind_of_problem_is_checked_by_itself_and_has_its_fall_back(length: float, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, classes, labels = problem(19, 12)
    asked: list[bool] = []

    def agrees(device: torch.device, num_neighbours: int | None, *, dim: int, bounded: bool, **others: object) -> bool:
        assert (device.type, num_neighbours, dim) == (DEVICE, None, 12)
        asked.append(bounded)
        return bounded

    monkeypatch.setattr(losses_triton, "triton_agrees", agrees)
    objective, arguments = objective_of(labels), (length * pixels, length * classes, labels)
    found = flat(losses_triton.agreeing_triton_loss(*arguments, objective, True))
    expected = flat((triton_loss if length == 1 else chunked_loss)(*arguments, objective, True))
    assert asked == [True, length == 1]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected))


@of_kernels
@pytest.mark.parametrize(("num_neighbours", "most"), [(None, 1), (6, 2)])
def test_the_host_reads_a_gpu_once_and_once_more_for_ties(num_neighbours: int | None, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, classes, labels = problem(19, 12)
    objective = objective_of(labels, num_neighbours)
    with looks_counted() as looks:
        triton_loss(pixels, classes, labels, objective, True)
    assert len([name for name in looks if "nonzero" in name or name == "tolist"]) <= most, looks
