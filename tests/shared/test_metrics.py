"""Metrics against hand-computed cases, and what the matrix refuses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import metrics
from shared.errors import InputError
from shared.metrics import ConfusionMatrix

LABELS = torch.tensor([[0, 0, 0, 1], [1, 2, -1, -1]])
PREDICTION = torch.tensor([[0, 0, 1, 1], [1, 1, 2, 99]])


def counted(prediction: torch.Tensor = PREDICTION, labels: torch.Tensor = LABELS, num_classes: int = 4) -> ConfusionMatrix:
    matrix = ConfusionMatrix(num_classes)
    matrix.update(prediction, labels)
    return matrix


def test_hand_computed_case() -> None:
    matrix = counted()
    assert matrix.counts.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert matrix.counts.dtype == torch.int64
    iou = matrix.iou()
    assert iou.dtype == torch.float64
    assert iou[:3].tolist() == pytest.approx([2 / 3, 2 / 4, 0])
    assert math.isnan(iou[3])
    assert matrix.miou() == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert matrix.pixel_accuracy() == pytest.approx(4 / 6)
    assert matrix.mean_accuracy() == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert matrix.fwiou() == pytest.approx((3 * 2 / 3 + 2 * 1 / 2 + 1 * 0) / 6)


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    matrix = counted(torch.tensor([0, 3]), torch.tensor([0, 0]))
    assert matrix.miou() == pytest.approx((1 / 2 + 0) / 2)
    assert matrix.mean_accuracy() == pytest.approx(1 / 2)


def test_right_everywhere_is_one() -> None:
    matrix = counted(torch.arange(4), torch.arange(4))
    assert [matrix.miou(), matrix.pixel_accuracy(), matrix.mean_accuracy(), matrix.fwiou()] == [1.0] * 4


def test_nothing_counted_is_nan() -> None:
    matrix = counted(torch.tensor([0]), torch.tensor([-1]))
    assert all(math.isnan(value) for value in (matrix.miou(), matrix.pixel_accuracy(), matrix.mean_accuracy(), matrix.fwiou()))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), max_size=40), st.integers(0, 40))
def test_batches_and_merging_do_not_matter(extra: int, pairs: list[tuple[int, int]], cut: int) -> None:
    prediction, labels = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    whole = counted(prediction, labels, num_classes=4 + extra)
    first, second = (counted(prediction[part], labels[part], num_classes=4 + extra) for part in (slice(cut), slice(cut, None)))
    first.add(second)
    assert torch.equal(first.counts, whole.counts)
    assert int(whole.counts.sum()) == int((labels >= 0).sum())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.uint16])
def test_every_integer_type_counts_alike(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, 1, 200])
    assert torch.equal(counted(labels.to(dtype), labels, num_classes=201).counts, counted(labels, labels, num_classes=201).counts)


def test_another_ignore_index() -> None:
    matrix = ConfusionMatrix(3, ignore_index=255)
    matrix.update(torch.tensor([0, 1]), torch.tensor([0, 255]))
    assert int(matrix.counts.sum()) == 1
    with pytest.raises(InputError, match="class id -1"):
        matrix.update(torch.tensor([0]), torch.tensor([-1]))


@pytest.mark.parametrize(
    ("prediction", "labels", "message"),
    [
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), "prediction has type torch.float32"),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.bool), "label map has type torch.bool"),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64), r"shape \(2,\), label map \(1, 2\)"),
        (torch.tensor([0]), torch.tensor([4]), "label map holds class id 4; expected were 0 to 3"),
        (torch.tensor([-2]), torch.tensor([0]), "prediction holds class id -2"),
    ],
)
def test_refusals_leave_the_counts(prediction: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    matrix = counted()
    before = matrix.counts.clone()
    with pytest.raises(InputError, match=message):
        matrix.update(prediction, labels)
    assert torch.equal(matrix.counts, before)


def test_matrices_of_other_classes_do_not_add() -> None:
    with pytest.raises(InputError, match="5 classes to one of 4"):
        counted().add(ConfusionMatrix(5))


def sparse(num_classes: int) -> ConfusionMatrix:
    """A matrix in the form that many classes have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "DENSE_CLASSES", 0)
        return ConfusionMatrix(num_classes)


BATCHES = st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 6)), max_size=30), max_size=6)


@settings(max_examples=60, deadline=None)
@given(BATCHES, st.integers(0, 3))
def test_sparse_counts_are_the_dense_ones(batches: list[list[tuple[int, int]]], extra: int) -> None:
    num_classes = 7 + extra
    dense, few = ConfusionMatrix(num_classes), sparse(num_classes)
    for batch in batches:
        prediction, labels = torch.tensor(batch, dtype=torch.int64).reshape(-1, 2).unbind(1)
        dense.update(prediction, labels)
        few.update(prediction, labels)
    assert torch.equal(few.counts, dense.counts)
    assert torch.equal(few.labelled_pixels, dense.labelled_pixels)
    assert few.num_pixels == dense.num_pixels
    assert torch.equal(few.iou().nan_to_num(-1), dense.iou().nan_to_num(-1))
    for figure in ("miou", "pixel_accuracy", "mean_accuracy", "fwiou"):
        assert getattr(few, figure)() == pytest.approx(getattr(dense, figure)(), nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(BATCHES, BATCHES, st.booleans(), st.booleans())
def test_forms_add_up(ours: list, theirs: list, ours_sparse: bool, theirs_sparse: bool) -> None:
    def matrix(batches: list, is_sparse: bool) -> ConfusionMatrix:
        made = sparse(7) if is_sparse else ConfusionMatrix(7)
        for batch in batches:
            made.update(*torch.tensor(batch, dtype=torch.int64).reshape(-1, 2).unbind(1))
        return made

    total, other = matrix(ours, ours_sparse), matrix(theirs, theirs_sparse)
    before = other.counts
    total.add(other)
    assert torch.equal(total.counts, matrix(ours + theirs, False).counts)
    assert torch.equal(other.counts, before)


def test_many_classes_store_the_pairs_that_occur() -> None:
    matrix = ConfusionMatrix(3_000_000)  # 9·10¹² pairs, which a matrix could not hold
    for _ in range(5):
        matrix.update(torch.tensor([2_999_999, 5, 5, 0]), torch.tensor([2_999_999, 7, 7, -1]))
        stored = sum(len(pairs) for pairs, _ in matrix._counts._parts)
        assert stored <= 4
    assert matrix.num_pixels == 15
    assert matrix.labelled_pixels[[5, 7, 2_999_999]].tolist() == [0, 10, 5]
    assert matrix.miou() == pytest.approx((1 + 0 + 0) / 3)


def test_labelled_pixels_and_their_number() -> None:
    matrix = counted()
    assert matrix.labelled_pixels.tolist() == [3, 2, 1, 0]
    assert matrix.labelled_pixels.dtype == torch.int64
    assert matrix.num_pixels == 6


@pytest.mark.gpu
def test_cuda_counts_as_the_cpu_does() -> None:
    labels, prediction = torch.randint(-1, 50, (2, 64, 64)), torch.randint(0, 50, (2, 64, 64))
    for matrix in (ConfusionMatrix(50), sparse(50)):
        matrix.update(prediction.cuda(), labels.cuda())
        assert matrix.counts.is_cuda
        assert torch.equal(matrix.counts.cpu(), counted(prediction, labels, num_classes=50).counts)
        assert matrix.miou() == counted(prediction, labels, num_classes=50).miou()
