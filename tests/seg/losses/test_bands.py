"""Bands of rows: equal to the whole output in loss, gradients and predictions, without its memory."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from seg.losses import class_cross_entropy, exact_cross_entropy, neighbour_cross_entropy
from seg.losses.bands import loss_in_bands
from seg.model import build_segmenter
from seg.networks.upsampling import resize, upsample_rows
from seg.unit_vectors import unit_norm
from shared.errors import InputError
from shared.files.tensor_file import read_tensors
from tests.small import SEGMENTER, scenes

CLASSES, EMBEDDING_DIM = 7, 5
EXACT = partial(exact_cross_entropy, impl="chunked")
NEIGHBOURS = partial(neighbour_cross_entropy, num_neighbours=3, impl="chunked")
NORMALISE = partial(unit_norm, dim=1)


def identity(outputs: torch.Tensor) -> torch.Tensor:
    return outputs


HEADS: dict[str, tuple[Callable[..., torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]] = {
    "softmax": (class_cross_entropy, identity),
    "exact": (EXACT, NORMALISE),
    "exact, normalised before": (EXACT, identity),
    "exact, reference": (partial(exact_cross_entropy, impl="reference"), NORMALISE),
    "neighbours": (NEIGHBOURS, NORMALISE),
    "neighbours, normalised before": (NEIGHBOURS, identity),
}


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest result of any operator."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))])
        return result


def inputs_of(head: str, size: tuple[int, int], *, dtype: torch.dtype = torch.float64) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Features and, for the embedding head, class embeddings; label maps with ignored pixels and rows 5 to 12 ignored."""
    torch.manual_seed(0)
    height, width = size
    channels = CLASSES if head == "softmax" else EMBEDDING_DIM
    features = torch.randn(2, channels, -(-height // 4), -(-width // 4), dtype=dtype)
    if head.endswith("before"):
        features = unit_norm(features, dim=1)
    classes = unit_norm(torch.randn(CLASSES, EMBEDDING_DIM, dtype=dtype), dim=1)
    labels = torch.randint(CLASSES, (2, height, width)).masked_fill_(torch.rand(2, height, width) < 0.3, -1)
    labels[:, 5:13] = -1
    return [tensor.requires_grad_() for tensor in ([features] if head == "softmax" else [features, classes])], labels


def whole(head: str, inputs: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    loss, finish = HEADS[head]
    return loss(finish(resize(inputs[0], labels.shape[1:])), *inputs[1:], labels)


def banded(head: str, inputs: list[torch.Tensor], labels: torch.Tensor, rows: int) -> torch.Tensor:
    loss, finish = HEADS[head]
    return loss_in_bands(loss, *inputs, label_map=labels, rows=rows, finish=finish)


@settings(max_examples=60)
@given(data=st.data(), source=st.tuples(st.integers(1, 9), st.integers(1, 9)), size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_rows_are_those_of_interpolate(data: st.DataObject, source: tuple[int, int], size: tuple[int, int]) -> None:
    start = data.draw(st.integers(0, size[0] - 1))
    stop = data.draw(st.integers(start + 1, size[0]))
    features = torch.randn(2, 3, *source, dtype=torch.float64, requires_grad=True)
    rows = upsample_rows(features, size, start, stop)
    expected = F.interpolate(features, size, mode="bilinear", align_corners=False)[:, :, start:stop]
    torch.testing.assert_close(rows, expected)
    direction = torch.randn_like(expected)
    torch.testing.assert_close(*(torch.autograd.grad(result, features, direction)[0] for result in (rows, expected)))
    torch.testing.assert_close(upsample_rows(features.float(), size, start, stop), expected.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 8, 1000])
@pytest.mark.parametrize("size", [(32, 24), (21, 14)])
@pytest.mark.parametrize("head", HEADS)
def test_loss_and_gradients_are_those_of_the_whole_output(head: str, size: tuple[int, int], rows: int) -> None:
    inputs, labels = inputs_of(head, size)
    expected, loss = whole(head, inputs, labels), banded(head, inputs, labels, rows)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(3 * loss, inputs), torch.autograd.grad(3 * expected, inputs))
    with torch.no_grad():
        torch.testing.assert_close(banded(head, inputs, labels, rows), expected)


@pytest.mark.parametrize("head", ["softmax", "exact", "neighbours"])
def test_half_precision_and_autocast_are_computed_in_float32(head: str) -> None:
    inputs, labels = inputs_of(head, (32, 24), dtype=torch.float32)
    inputs[0] = inputs[0].detach().bfloat16().requires_grad_()
    loss = banded(head, inputs, labels, 4)
    gradients = torch.autograd.grad(loss, inputs)
    exact_inputs = [tensor.detach().float().requires_grad_() for tensor in inputs]
    expected = whole(head, exact_inputs, labels)
    torch.testing.assert_close(loss, expected)
    for gradient, like, reference in zip(gradients, inputs, torch.autograd.grad(expected, exact_inputs)):
        assert gradient.dtype == like.dtype
        torch.testing.assert_close(gradient, reference.to(like.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = banded(head, inputs, labels, 4)
    assert torch.equal(under_autocast, loss)
    assert all(torch.equal(*pair) for pair in zip(torch.autograd.grad(under_autocast, inputs), gradients))


def test_float64_is_kept_and_a_graph_may_be_walked_twice() -> None:
    inputs, labels = inputs_of("exact", (20, 16))
    loss = banded("exact", inputs, labels, 4)
    assert loss.dtype == torch.float64
    first, second = (torch.autograd.grad(loss, inputs, retain_graph=True) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second))
    only_features = torch.autograd.grad(banded("exact", [inputs[0], inputs[1].detach()], labels, 4), inputs[0])[0]
    assert torch.equal(only_features, first[0])


@pytest.mark.parametrize("head", ["softmax", "exact"])
def test_without_valid_pixels_loss_and_gradients_are_zero(head: str) -> None:
    inputs, labels = inputs_of(head, (16, 16))
    loss = banded(head, inputs, torch.full_like(labels, -1), 4)
    assert loss == 0
    assert not any(gradient.any() for gradient in torch.autograd.grad(loss, inputs))


def test_refusals() -> None:
    inputs, labels = inputs_of("exact", (16, 16))
    with pytest.raises(InputError, match="a band cannot have 0 rows; give at least 1"):
        banded("exact", inputs, labels, 0)
    labels[1, 15, 0] = CLASSES
    with pytest.raises(InputError, match="label 7 is outside the 7 classes"):
        banded("exact", inputs, labels, 4)


@pytest.mark.parametrize(("head", "size", "rows"), [("softmax", (128, 256), 8), ("exact", (768, 512), 4)])
def test_no_tensor_of_the_output_size_exists(head: str, size: tuple[int, int], rows: int) -> None:
    inputs, labels = inputs_of(head, size, dtype=torch.float32)
    output_size = 16 * inputs[0].numel()
    largest = {}
    for name, compute in (("whole", whole), ("banded", partial(banded, rows=rows))):
        with LargestTensor() as seen:
            compute(head, inputs, labels).backward()
        largest[name] = seen.numel
    assert largest["whole"] >= output_size
    # a band with the rows of the features that it is made of, all labels, or a chunk of the loss
    assert largest["banded"] <= max(output_size // 8, labels.numel(), 2**20)


@pytest.mark.parametrize(("head", "classes"), [("softmax", 300), ("embedding", 9)])
def test_predictions_are_those_of_the_whole_output_without_its_memory(head: str, classes: int) -> None:
    torch.manual_seed(0)
    model = build_segmenter(head=head, backbone="tiny", num_classes=classes, embedding_dim=40, width=16).eval()
    images = torch.randn(2, 3, 190, 170)
    with torch.no_grad():
        outputs = model(images)
    with LargestTensor() as seen:
        ids = model.predict(images)
    assert torch.equal(ids, model.classify(outputs))
    assert seen.numel < outputs.numel() / 3


# --- The training program ---------------------------------------------------------------------------------------------

TRAIN = ["seg.train", *scenes(classes=7, train=4, val=2, size=(32, 48)), *SEGMENTER]
TRAIN += ["--train.steps", 2, "--train.batch_size", 2, "--train.log_every", 1]


@pytest.mark.parametrize("head", ["embedding", "softmax"])
def test_training_in_bands_is_training(head: str, invoke: Callable[..., Any], tmp_path: Path) -> None:
    command = [*TRAIN, "--head", head]
    for name, extra in (("whole", []), ("banded", ["--loss.band_rows", 5])):
        outcome = invoke(*command, *extra, "--run_dir", tmp_path / name)
        assert outcome.status == 0, outcome.errors
    lines = [[json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()] for name in ("whole", "banded")]
    expected, losses = ([line["loss/cross_entropy"] for line in of_run if "loss/cross_entropy" in line] for of_run in lines)
    assert len(losses) == 2
    assert losses == pytest.approx(expected, rel=1e-4)
    parts = [*command, "--loss.band_rows", 5, "--run_dir", tmp_path / "parts"]
    assert invoke(*parts, "--train.stop_after", 1).status == 0
    assert invoke(*parts).status == 0
    weights, resumed = (
        read_tensors(tmp_path / name / "checkpoints/last.safetensors", "checkpoint tensors/1")[0] for name in ("banded", "parts")
    )
    assert weights.keys() == resumed.keys()
    assert all(torch.equal(weights[key], resumed[key]) for key in weights)


def test_a_band_of_no_rows_is_refused_before_training(invoke: Callable[..., Any]) -> None:
    outcome = invoke(*TRAIN, "--loss.band_rows", 0)
    assert outcome.status == 1
    assert "loss.band_rows is 0; it must be at least 1" in outcome.errors
