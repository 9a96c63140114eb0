"""The predicted peak memory against tensors counted in real steps, and against what is known by hand."""

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from seg.config import LossConfig, ModelConfig, SegConfig, SegTrainConfig
from seg.losses import class_cross_entropy, exact_cross_entropy
from seg.losses.bands import loss_in_bands
from seg.model import EmbeddingSegmenter
from seg.trained import segmenter_from
from seg.training.memory import GIB, MemoryPrediction, memory_plan, predict_peak
from seg.training.optimiser import build_optimisers
from seg.training.traced_step import NETWORK, OUTPUT, PARTS, WEIGHTS, LiveBytes, trace_step

SIZE = (64, 80)
Invoke = Callable[..., Any]


def settings_of(head: str = "embedding", *, loss: LossConfig | None = None, accumulation: int = 1, precision: str = "no") -> SegConfig:
    train = SegTrainConfig(accumulation=accumulation, precision=precision)  # type: ignore[arg-type]
    return SegConfig(head=head, model=ModelConfig(backbone="tiny"), loss=loss or LossConfig(), train=train)  # type: ignore[arg-type]


def predicted(config: SegConfig, num_classes: int, batch_size: int = 6, device_type: str = "cpu") -> MemoryPrediction:
    """`predict_peak` for images of `SIZE`, once per setting in this file: any batch size follows from one prediction."""
    key = f"{config} {num_classes} {device_type}"
    if key not in _PREDICTIONS:
        height, width = SIZE
        _PREDICTIONS[key] = predict_peak(config, num_classes, batch_size=2, height=height, width=width, device_type=device_type)
    return replace(_PREDICTIONS[key], batch_size=batch_size)


_PREDICTIONS: dict[str, MemoryPrediction] = {}


def measured(config: SegConfig, num_classes: int, batch_size: int) -> int:
    """Most tensor bytes alive in the second of two real training steps."""

    def output() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.train.precision == "bf16"):
            return model(images, upsample=config.loss.band_rows is None).float()

    def step() -> None:
        classes = (model.class_embeddings,) if isinstance(model, EmbeddingSegmenter) else ()
        if config.loss.band_rows is None:
            loss = cross_entropy(output(), *classes, labels)
        else:
            loss = loss_in_bands(cross_entropy, output(), *classes, label_map=labels, rows=config.loss.band_rows, finish=model.finish)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    cross_entropy = class_cross_entropy if config.head == "softmax" else partial(exact_cross_entropy, impl="chunked")
    gc.collect()
    with LiveBytes() as live:
        model = segmenter_from(config.head, num_classes, config.model)
        optimizers = build_optimisers(model, config.train).values()
        images, labels = torch.randn(batch_size, 3, *SIZE), torch.randint(0, num_classes, (batch_size, *SIZE))
        step()
        live.history.clear()
        step()
    return max(map(sum, live.history))


# --- Counting what is alive -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("without_data", [False, True])
def test_live_bytes_of_known_tensors(without_data: bool) -> None:
    mode = FakeTensorMode() if without_data else torch.no_grad()
    with mode, LiveBytes() as live:
        first = torch.empty(100)
        view = first[:50].view(5, 10)
        live.part = NETWORK
        second = torch.empty(10, dtype=torch.int64)
        view.add_(1)
        del first  # the view keeps its memory
        torch.empty(1000, dtype=torch.uint8)  # gone at once
        del second
        live.move(view, OUTPUT)
        third = torch.empty(1)
    order = [WEIGHTS, NETWORK, OUTPUT]
    rows = [tuple(dict(zip(PARTS, row))[part] for part in order) for row in live.history]
    assert rows == [(400, 0, 0), (400, 80, 0), (400, 1080, 0), (0, 4, 400)]
    assert third.numel() == 1


def test_saved_activations_of_a_chain() -> None:
    """Input and three outputs of 4000 bytes are alive; each tanh adds its gradient, then its output and the gradient before it go."""
    with FakeTensorMode(), LiveBytes() as live:
        total = torch.empty(1000, requires_grad=True).tanh().tanh().tanh().sum()
        forward = [sum(row) for row in live.history]
        live.history.clear()
        total.backward()
    assert forward == [4000, 8000, 12000, 16000, 16004]
    assert [sum(row) for row in live.history] == [16008, 20008, 20008, 16008]


# --- The prediction ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "tolerance"),
    [
        (settings_of("softmax", precision="bf16"), 0.002),
        (settings_of("softmax", loss=LossConfig(band_rows=16)), 0.03),  # the band in the middle of an image needs a feature row more
        (settings_of(), 0.005),
    ],
)
@pytest.mark.slow
def test_prediction_is_what_a_real_step_holds(config: SegConfig, tolerance: float) -> None:
    assert predicted(config, 60, batch_size=24).peak == pytest.approx(measured(config, 60, batch_size=24), rel=tolerance)


@pytest.mark.slow
def test_every_batch_size_lies_on_the_lines() -> None:
    """The prediction for seven images, from two and three, is what seven would give."""
    seven = trace_step(settings_of(), 60, (7, *SIZE), "cpu")
    prediction = predicted(settings_of(), 60, batch_size=7)
    assert (prediction.constant + 7 * prediction.per_image == seven).all()
    assert prediction.peak == seven.sum(axis=1).max()


def test_largest_batch_by_hand() -> None:
    """Two moments: 100 + 10·N and 40 + 30·N bytes."""
    constant, per_image = torch.zeros(2, 3, 4, dtype=torch.int64).numpy()
    constant[:, 0] = 100, 40, 90
    per_image[:, 1] = 10, 30, 0
    small, large = (MemoryPrediction(n, constant, per_image) for n in (2, 5))
    assert (small.peak, large.peak) == (120, 190)
    assert large.parts == dict(zip(PARTS, (40, 150, 0, 0)))
    assert [small.largest_batch(budget) for budget in (99, 119, 120, 190, 219, 220)] == [0, 1, 2, 5, 5, 6]


@pytest.mark.slow
def test_only_the_softmax_head_feels_the_number_of_classes() -> None:
    few, many = (predicted(settings_of(), num_classes) for num_classes in (60, 2060))
    vectors = 2000 * ModelConfig().embedding_dim * 4
    assert few.peak < many.peak < few.peak + 10 * vectors  # weights, gradients, momentum and some unit vectors
    assert (many.per_image == few.per_image).all()

    few, many = (predicted(settings_of("softmax"), num_classes) for num_classes in (60, 260))
    logits = 200 * SIZE[0] * SIZE[1] * 4
    assert (many.per_image - few.per_image).sum(axis=1).max() == 3 * logits  # log-softmax, its gradient, the logits' gradient


@pytest.mark.slow
def test_bands_need_less_than_the_full_output() -> None:
    whole, banded = (predicted(settings_of("softmax", loss=LossConfig(band_rows=rows)), 260) for rows in (None, 16))
    assert banded.parts[OUTPUT] < whole.parts[OUTPUT] / 3
    assert banded.peak < whole.peak


def test_accumulation_keeps_the_gradients() -> None:
    once, twice = (predicted(settings_of(accumulation=count), 60).peak for count in (1, 2))
    weights = sum(parameter.nbytes for parameter in segmenter_from("embedding", 60, ModelConfig(backbone="tiny")).parameters())
    assert 0.5 * weights < twice - once <= weights


@pytest.mark.slow
def test_group_norm_stays_in_float32_on_a_gpu() -> None:
    config = settings_of(precision="bf16")
    config.model.norm = "group"
    cpu, cuda = (predicted(config, 60, device_type=kind).parts[NETWORK] for kind in ("cpu", "cuda"))
    assert cuda > 1.3 * cpu


@pytest.mark.slow
def test_a_published_figure() -> None:
    """COCO+LVIS with the softmax head (ESSNet, Table 6). Its code holds the output in the backward pass: one more tensor than here."""
    model = ModelConfig(backbone="resnet50")
    prediction = predict_peak(SegConfig(head="softmax", model=model), 1284, batch_size=2, height=450, width=450, device_type="cuda")
    output = 4 * 1284 * 2 * 450 * 450
    assert prediction.peak + output == pytest.approx(9.94e9, rel=0.05)


def test_nothing_is_computed_or_drawn() -> None:
    state = torch.get_rng_state()
    prediction = predict_peak(SegConfig(), 10, batch_size=10**6, height=2000, width=2000)
    assert prediction.peak > 10**6 * 2000 * 2000 * 12 * 4
    assert torch.equal(torch.get_rng_state(), state)


def test_the_plan_for_people() -> None:
    config = settings_of()
    config.train.batch_size = 6
    prediction = predicted(config, 60)
    peak, fits = memory_plan(config, 60, SIZE, torch.device("cpu")).splitlines()
    assert peak.startswith(f"memory: a step on 6 images of 64x80 is predicted to need {prediction.peak / 2**20:.1f} MiB (weights")
    assert f"{prediction.largest_batch(int(0.9 * 12 * GIB))} in 12 GiB" in fits


def test_the_dry_run_tells_the_prediction(invoke: Invoke, tmp_path: Path) -> None:
    size = ["--input.resize", "[64,80]", "--train.batch_size", 6, "--train.device", "cpu"]
    outcome = invoke("seg.train", "--dry-run", "--data.scenes.num_classes", 60, *size, "--run_dir", tmp_path / "run")
    assert outcome.status == 0, outcome.errors
    assert memory_plan(SegConfig(train=SegTrainConfig(batch_size=6)), 60, SIZE, torch.device("cpu")) in outcome.output
    assert not (tmp_path / "run").exists()
