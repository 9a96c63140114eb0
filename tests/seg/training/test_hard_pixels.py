"""The pixels with the largest loss: found in chunks and bands, for both heads, and the only ones that have a gradient."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from seg.config import LossConfig
from seg.losses import exact_cross_entropy
from seg.model import build_segmenter
from seg.training.pixel_weights import keep_hardest, losses_of_pixels

CLASSES = 6


@given(fraction=st.floats(0.01, 1), seed=st.integers(0, 100), ignored=st.floats(0, 1))
def test_the_share_that_stays(fraction: float, seed: int, ignored: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    losses = torch.randint(0, 5, (2, 7, 9), generator=generator).float()  # many are equal
    labels = torch.randint(0, 4, losses.shape, generator=generator)
    labels[torch.rand(losses.shape, generator=generator) < ignored] = -1
    kept = keep_hardest(labels, losses, fraction)
    valid, stays = labels >= 0, kept >= 0
    assert int(stays.sum()) == -(-fraction * int(valid.sum()) // 1)
    assert torch.equal(kept[stays], labels[stays]) and not (stays & ~valid).any()
    if stays.any() and (valid & ~stays).any():
        assert losses[stays].min() >= losses[valid & ~stays].max()


@pytest.mark.parametrize("head", ["embedding", "softmax"])
@pytest.mark.parametrize("distance", ["squared", "plain"])
@pytest.mark.parametrize("band_rows", [None, 5])
def test_losses_of_pixels(head: str, distance: Any, band_rows: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each equals the loss of a label map in which every other pixel is ignored."""
    monkeypatch.setattr("seg.training.pixel_weights.pixels_per_chunk", lambda elements, device: 50)
    torch.manual_seed(0)
    model = build_segmenter(head=head, backbone="tiny", num_classes=CLASSES, width=16).eval()
    images, labels = torch.randn(2, 3, 16, 32), torch.randint(-1, CLASSES, (2, 16, 32))
    config, temperature = LossConfig(distance=distance, band_rows=band_rows), 0.05
    with torch.no_grad():
        full = model(images)
        found = losses_of_pixels(model, full if band_rows is None else model(images, upsample=False), labels, config, temperature)
    assert (found[labels < 0] == 0).all()
    for place in [(0, 0, 0), (1, 15, 31), (0, 7, 11), (1, 3, 30)]:
        alone = torch.full_like(labels, -1)
        alone[place] = labels[place].clamp(0)
        if labels[place] < 0:
            continue
        expected = (
            F.cross_entropy(full, alone, ignore_index=-1)
            if head == "softmax"
            else exact_cross_entropy(full, model.class_embeddings, alone, temperature=temperature, distance=distance, impl="reference")  # type: ignore[arg-type]
        )
        torch.testing.assert_close(found[place], expected.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", ["embedding", "softmax"])
def test_training_with_weights_and_hard_pixels(head: str, tmp_path: Path, invoke: Callable[..., Any]) -> None:
    settings = [
        "--head",
        head,
        "--loss.hardest",
        0.3,
        "--loss.class_weights",
        "median_frequency",
        "--loss.band_rows",
        8,
        "--model.width",
        16,
    ]
    settings += [
        "--train.steps",
        2,
        "--train.batch_size",
        2,
        "--data.scenes.height",
        32,
        "--data.scenes.width",
        64,
        "--data.num_workers",
        0,
    ]
    settings += ["--data.scenes.train_length", 4, "--data.scenes.val_length", 2]
    outcome = invoke("seg.train", *settings, "--run_dir", tmp_path / "run")
    assert outcome.status == 0, outcome.errors
    assert (tmp_path / "run/statistics_train.safetensors").is_file()
    refused = invoke("seg.train", "--loss.hardest", 0)
    assert refused.status != 0 and "loss.hardest is 0" in refused.errors
