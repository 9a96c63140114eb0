"""`EmbeddingHead`: the loss and the predictions of the segmenter, in full and in bands, and no number for every pixel and class."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seg.losses import class_separation, exact_cross_entropy, neighbour_cross_entropy
from seg.losses.bands import loss_in_bands
from seg.losses.temperature import LearnedTemperature
from seg.model import EmbeddingHead, EmbeddingSegmenter, build_segmenter
from seg.networks.deeplab import DeepLabV3Plus
from seg.training.traced_step import LiveBytes
from shared.errors import InputError

CHANNELS, CLASSES, DIM = 16, 9, 5


def head(**options: Any) -> EmbeddingHead:
    torch.manual_seed(0)
    return EmbeddingHead(CHANNELS, CLASSES, DIM, **options)


def inputs(size: tuple[int, int] = (21, 30), classes: int = CLASSES, ignored: int = -1) -> tuple[torch.Tensor, torch.Tensor]:
    """Features at stride 4 that ask for a gradient, and a label map with ignored pixels."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, CHANNELS, -(-size[0] // 4), -(-size[1] // 4), generator=generator).requires_grad_()
    labels = torch.randint(classes, (2, *size), generator=generator)
    labels[:, 3:6] = ignored
    return features, labels


def gradients(module: nn.Module, loss: torch.Tensor, features: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, [features, *module.parameters()]))


@pytest.mark.parametrize("options", [{}, {"impl": "chunked"}, {"num_neighbours": 3}], ids=str)
def test_the_loss_by_hand(options: dict[str, Any]) -> None:
    module, (features, labels) = head(temperature=0.3, margin=1.5, margin_weight=0.5, **options), inputs()
    found = module.loss(features, labels)
    embeddings = F.interpolate(F.conv2d(features, module.project.weight, module.project.bias), (21, 30), mode="bilinear")
    loss = exact_cross_entropy if "num_neighbours" not in options else neighbour_cross_entropy
    neighbours = {key: value for key, value in options.items() if key == "num_neighbours"}
    classes = F.normalize(module.raw_class_embeddings)
    wanted = loss(F.normalize(embeddings), classes, labels, temperature=0.3, impl="reference", **neighbours)
    wanted = wanted + 0.5 * class_separation(classes, 1.5)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(gradients(module, found, features), gradients(module, wanted, features)):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.2, "learned"])
@pytest.mark.parametrize("band_rows", [None, 4])
def test_it_is_the_loss_and_the_prediction_of_a_segmenter_bit_for_bit(temperature: Any, band_rows: int | None) -> None:
    """A segmenter whose last convolution is taken away, with a head that has its weights."""
    torch.manual_seed(0)
    segmenter = build_segmenter(head="embedding", backbone="tiny", num_classes=CLASSES, embedding_dim=DIM, width=16).eval()
    assert isinstance(segmenter, EmbeddingSegmenter) and isinstance(segmenter.network, DeepLabV3Plus)
    last = segmenter.network.decode[-1]
    module = EmbeddingHead(16, CLASSES, DIM, temperature=temperature, band_rows=band_rows)
    module.project.load_state_dict(last.state_dict())
    module.raw_class_embeddings.data.copy_(segmenter.raw_class_embeddings.data)
    images, (_, labels) = torch.rand(2, 3, 21, 30), inputs()

    learned = LearnedTemperature() if temperature == "learned" else None
    output, classes = segmenter(images, upsample=band_rows is None), segmenter.class_embeddings
    compared = classes if learned is None else learned.sharpen(classes)
    cross_entropy = partial(exact_cross_entropy, temperature=temperature if learned is None else 1.0)
    if band_rows is None:
        wanted = cross_entropy(output, compared, labels)
    else:
        wanted = loss_in_bands(cross_entropy, output, compared, label_map=labels, rows=band_rows, finish=segmenter.finish)
    wanted = wanted + class_separation(classes, 0.2)
    segmenter.network.decode[-1] = nn.Identity()
    found = module.loss(segmenter.network(images), labels)
    assert torch.equal(found, wanted)
    wanted.backward()
    found.backward()
    assert torch.equal(module.raw_class_embeddings.grad, segmenter.raw_class_embeddings.grad)  # type: ignore[arg-type]
    assert torch.equal(module.project.weight.grad, last.weight.grad)
    if learned is not None:
        assert isinstance(module.temperature, LearnedTemperature)
        assert torch.equal(module.temperature.raw.grad, learned.raw.grad)  # type: ignore[arg-type]

    predicted = module.predict(segmenter.network(images), labels.shape[1:])
    segmenter.network.decode[-1] = last
    assert torch.equal(predicted, segmenter.predict(images))


@pytest.mark.parametrize("rows", [1, 5, 100])
def test_bands_change_nothing(rows: int) -> None:
    whole, banded = head(), head(band_rows=rows)
    features, labels = inputs()
    found = [(loss := module.loss(features, labels), *gradients(module, loss, features)) for module in (whole, banded)]
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("band_rows", [None, 4])
def test_the_ignored_label_may_be_any(band_rows: int | None) -> None:
    plain, other = head(band_rows=band_rows), head(band_rows=band_rows, ignore_index=255)
    features, labels = inputs()
    assert torch.equal(plain.loss(features, labels), other.loss(features, labels.where(labels >= 0, 255).to(torch.uint8)))
    nothing = other.loss(features, torch.full((2, 21, 30), 255))
    torch.testing.assert_close(nothing, class_separation(other.class_embeddings))


def test_half_precision_is_compared_in_float32() -> None:
    module, (features, labels) = head(), inputs()
    with torch.autocast("cpu", torch.bfloat16):
        loss = module.loss(features, labels)
        predicted = module.predict(features, (21, 30))
    assert loss.dtype == torch.float32 and predicted.shape == (2, 21, 30)
    torch.testing.assert_close(loss, module.loss(features, labels), rtol=0.02, atol=0.02)


def test_a_prediction_is_the_nearest_class_at_any_size() -> None:
    module, (features, _) = head(), inputs()
    embeddings = module(features)
    assert embeddings.shape == (2, DIM, 6, 8)
    for size in (None, (21, 30)):
        at = embeddings if size is None else F.interpolate(embeddings, size, mode="bilinear")
        wanted = torch.einsum("ndhw,cd->nchw", F.normalize(at), module.class_embeddings).argmax(1)
        assert torch.equal(module.predict(features, size), wanted)
    assert not module.predict(features).requires_grad


def test_it_learns_and_so_does_its_temperature() -> None:
    module = head(temperature="learned", band_rows=8)
    features, labels = inputs()
    optimizer = torch.optim.AdamW([{"params": module.parameters()}, {"params": [features]}], lr=0.05)
    before = module.temperature().item()  # type: ignore[operator]
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = module.loss(features, labels // 5)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert module.temperature().item() != pytest.approx(before)  # type: ignore[operator]


def test_its_state_is_three_tensors_and_the_temperature() -> None:
    """Names that checkpoints hold."""
    fixed = head(temperature=0.2)
    assert list(fixed.state_dict()) == ["raw_class_embeddings", "project.weight", "project.bias"]
    assert {*head().state_dict()} - {*fixed.state_dict()} == {"temperature.raw"}


@pytest.mark.slow
@pytest.mark.parametrize("band_rows", [None, 8])
def test_no_tensor_has_a_number_for_every_pixel_and_class(band_rows: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bytes alive at once, in a training step and in a prediction: a part of the bytes of scores, and hardly more for twice the
    classes."""
    monkeypatch.setattr("seg.neighbours.search.numba_obstacle", lambda: "hidden, so that every tensor is one of torch's")
    pixels, peaks = 2 * 48 * 64, []
    for classes in (4000, 8000):
        features, labels = inputs((48, 64), classes)
        module = EmbeddingHead(CHANNELS, classes, DIM, impl="chunked", band_rows=band_rows)
        with LiveBytes() as live:
            module.loss(features, labels).backward()
            module.predict(features, labels.shape[1:])
        peaks.append(max(sum(parts) for parts in live.history))
    scores = 4 * pixels * 8000
    assert peaks[1] < scores / 10
    assert peaks[1] - peaks[0] < 24 * 4 * 4000 * DIM, "it grows with the class vectors alone"


def test_a_softmax_is_seen_by_that_count() -> None:
    features, labels = inputs((48, 64), 2000)
    scores = nn.Conv2d(CHANNELS, 2000, 1)
    with LiveBytes() as live:
        F.cross_entropy(F.interpolate(scores(features), (48, 64), mode="bilinear"), labels, ignore_index=-1).backward()
    assert max(sum(parts) for parts in live.history) > 2 * 48 * 64 * 2000 * 4


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a label that is no class": (
        lambda: head().loss(inputs()[0], torch.full((2, 21, 30), 9)),
        InputError,
        "label 9 is outside the 9 classes",
    ),
    "another ignored label": (lambda: head().loss(*inputs(ignored=255)), InputError, "label 255 is outside"),
    "too few label maps": (lambda: head().loss(inputs()[0], inputs()[1][:1]), ValueError, r"shape \(1, 21, 30\) beside 2 images"),
    "one label map": (lambda: head().loss(inputs()[0], inputs()[1][0]), ValueError, r"expected \(2, H, W\)"),
    "no temperature": (lambda: head(temperature=0), InputError, "temperature is 0; it must be a number above 0, or 'learned'"),
    "another word": (lambda: head(temperature="cold"), InputError, "temperature is 'cold'"),
    "bands without rows": (lambda: head(band_rows=0), InputError, "band_rows is 0; it must be at least 1, or None"),
    "more neighbours than classes": (lambda: head(num_neighbours=10), InputError, "cannot take the 10 nearest of 9 classes"),
    "an unknown implementation": (lambda: head(impl="fast"), InputError, "unknown loss implementation 'fast'"),
}


@pytest.mark.parametrize("call", REFUSED)
def test_refusals(call: str) -> None:
    do, kind, message = REFUSED[call]
    with pytest.raises(kind, match=message):
        do()
