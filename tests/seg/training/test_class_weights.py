"""Class weights: a pixel of weight 3 counts as three, in every implementation, in bands, and for both heads; and where they come from."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seg.losses import class_cross_entropy, exact_cross_entropy
from seg.losses.bands import loss_in_bands
from seg.losses.objective import weight_of_labels
from seg.train import valid_weights
from seg.training.pixel_weights import median_frequency, read_class_weights
from shared.data.batch import Batch
from shared.data.spec import DatasetSpec
from shared.data.statistics import ClassStatistics, count_classes
from shared.errors import InputError
from shared.visualise import voc_palette
from tests.seg.losses.loss_problems import DISTANCES, IMPLS, problem, value_and_gradients

SPEC = DatasetSpec("made", ("road", "sky", "tram"), voc_palette(4)[1:])


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("num_neighbours", [None, 3])
@pytest.mark.parametrize("num_classes", [9, 130])
def test_a_weight_counts_pixels(impl: str, distance: str, num_neighbours: int | None, num_classes: int) -> None:
    """Against the loss without weights over pixels that are there as often as their class weighs, and not at all for weight 0."""
    pixels, classes, labels = problem(700, num_classes, 6)
    weights = torch.randint(0, 4, (num_classes,), generator=torch.Generator().manual_seed(1))
    repeats = torch.where(labels < 0, 1, weights[labels])
    options: dict[str, Any] = {"num_neighbours": num_neighbours, "distance": distance}
    found = value_and_gradients(pixels, classes, labels, impl=impl, class_weights=weights.double(), **options)
    again = [tensor.repeat_interleave(repeats, 0) for tensor in (pixels, labels)]
    loss, pixel_gradient, class_gradient = value_and_gradients(again[0], classes, again[1], impl="reference", **options)
    summed = torch.zeros_like(pixels).index_add_(0, torch.arange(len(pixels)).repeat_interleave(repeats), pixel_gradient)
    for result, expected in zip(found, (loss, summed, class_gradient)):
        torch.testing.assert_close(result, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("impl", IMPLS)
def test_equal_weights_change_nothing(impl: str) -> None:
    pixels, classes, labels = problem(300, 40, 6)
    for num_neighbours in (None, 4):
        plain = value_and_gradients(pixels, classes, labels, impl=impl, num_neighbours=num_neighbours)
        equal = torch.full((40,), 7.0)
        for one, other in zip(
            plain, value_and_gradients(pixels, classes, labels, impl=impl, num_neighbours=num_neighbours, class_weights=equal)
        ):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
def test_only_pixels_without_weight_give_zero(impl: str) -> None:
    pixels, classes, labels = problem(50, 5, 6)
    found = value_and_gradients(pixels, classes, labels, impl=impl, class_weights=torch.zeros(5))
    assert all((part == 0).all() for part in found)
    logits = torch.randn(1, 5, 2, 3, requires_grad=True)
    class_cross_entropy(logits, torch.zeros(1, 2, 3, dtype=torch.int64), class_weights=torch.zeros(5)).backward()
    assert logits.grad is not None and (logits.grad == 0).all()


def test_weights_of_another_number_of_classes_are_refused() -> None:
    pixels, classes, labels = problem(50, 5, 6)
    with pytest.raises(ValueError, match=r"expected \(5,\)"):
        exact_cross_entropy(pixels, classes, labels, class_weights=torch.ones(4))


@pytest.mark.parametrize("head", ["softmax", "embedding"])
@pytest.mark.parametrize("rows", [1, 5, 64])
def test_bands_add_up_in_proportion(head: str, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(-1, 5, (2, 16, 24), generator=generator)
    labels[:, 5:9] = 0  # rows of weight 0
    weights = torch.tensor([0.0, 1.0, 5.0, 0.5, 2.0], dtype=torch.float64)
    classes = () if head == "softmax" else (torch.randn(5, 5, generator=generator, dtype=torch.float64, requires_grad=True),)
    loss: Callable[..., torch.Tensor] = partial(class_cross_entropy if head == "softmax" else exact_cross_entropy, class_weights=weights)
    whole = loss(F.interpolate(features, (16, 24), mode="bilinear", align_corners=False), *classes, labels)
    banded = loss_in_bands(loss, features, *classes, label_map=labels, rows=rows, finish=lambda x: x, class_weights=weights)
    torch.testing.assert_close(banded, whole, rtol=1e-12, atol=0)
    for one, other in zip(torch.autograd.grad(banded, (features, *classes)), torch.autograd.grad(whole, (features, *classes))):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_median_frequency_by_hand() -> None:
    """Road: 6 of 12 pixels; sky: 2 of the 8 in the one image that has it; tram never."""
    maps = [np.array([[0, 0, 0, 0], [1, 1, -1, -1]]), np.array([[0, 0], [-1, -1]])]
    statistics = ClassStatistics.collect(SPEC, "train", [count_classes(str(index), labels) for index, labels in enumerate(maps)])
    np.testing.assert_allclose(median_frequency(statistics), [0.375 / 0.5, 0.375 / 0.25, 1])


def test_weights_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.csv"
    path.write_text("sky, 2\nroad,0.5\n\ntram,0\n")
    assert read_class_weights(path, SPEC).tolist() == [0.5, 2, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("road,1\nsky,1\n", "no weight for 'tram'"),
        ("road,1\nsky,1\ntram,1\nbus,1\n", "unknown class of made 'bus'; choose one of"),
        ("road,1\nroad,1\nsky,1\ntram,1\n", "'road' has two weights"),
        ("road,1\nsky,-1\ntram,1\n", "'sky,-1' is not a class name and a weight of 0 or more"),
        ("road,1\nsky,nan\ntram,1\n", "is not a class name and a weight"),
        ("road\n", "is not a class name and a weight"),
        ("road,0\nsky,0\ntram,0\n", "at least one must count"),
    ],
)
def test_bad_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_class_weights(path, SPEC)


def test_a_bad_file_stops_training_before_anything_is_written(tmp_path: Path, invoke: Callable[..., Any]) -> None:
    outcome = invoke("seg.train", "--loss.class_weights", "median", "--run_dir", tmp_path / "run")
    assert outcome.status != 0 and "median_frequency, inverse_sqrt or a csv file" in outcome.errors and not (tmp_path / "run").exists()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_weight_of_a_batch_is_that_of_its_labels(weighted: bool) -> None:
    maps = [torch.randint(-1, 5, (2, 3, 4)) for _ in range(2)]
    weights = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0]) if weighted else None
    batches = [Batch(torch.empty(0), ids, None, []) for ids in maps]
    expected = [weight_of_labels(ids, weights, -1).double() for ids in maps]
    torch.testing.assert_close(valid_weights(batches, weights), torch.stack(expected))
    assert expected[1] == sum((1.0 if weights is None else float(weights[label])) for label in maps[1].flatten().tolist() if label >= 0)
