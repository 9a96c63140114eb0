"""Confidence, the threshold that is chosen from it, and pixels that are rejected."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seg.inference import ViewConfig, predict_views, predict_with_confidence
from seg.model import EmbeddingSegmenter, build_segmenter
from seg.rejection import Confidences, auroc, false_positives
from tests.small import SEGMENTER, require_one_line, scenes

Invoke = Callable[..., Any]
DATA = scenes(classes=6, train=8, val=6)
TRAIN = [*DATA, *SEGMENTER, "--train.steps", 3, "--train.batch_size", 2, "--train.eval_every", 3]


def confidences(*values: float) -> Confidences:
    found = Confidences()
    found.add(torch.tensor(values))
    return found


@pytest.mark.parametrize("views", [ViewConfig(), ViewConfig(window=(16, 16), flip=True)], ids=["once", "views"])
@pytest.mark.parametrize("head", ["embedding", "softmax"])
def test_confidence_is_that_of_the_predicted_class(head: str, views: ViewConfig) -> None:
    torch.manual_seed(0)
    model = build_segmenter(head=head, backbone="tiny", num_classes=5, width=16).eval()
    model.leave_out([2], 5)
    images = torch.rand(2, 3, 30, 45)
    ids, confidence = predict_with_confidence(model, images, views)
    assert torch.equal(ids, predict_views(model, images, views))
    assert confidence.shape == (2, 30, 45) and confidence.max() <= 1 + 1e-6
    if views.single:
        outputs = model(images)
        if isinstance(model, EmbeddingSegmenter):
            expected = torch.einsum("ndhw,cd->nchw", outputs, *model.class_vectors).amax(1)
        else:
            expected = outputs[:, [0, 1, 3, 4]].softmax(1).amax(1)
        torch.testing.assert_close(confidence, expected, atol=1e-5, rtol=1e-5)


def test_the_threshold_keeps_to_the_rate() -> None:
    values = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = Confidences()
    found.add(values)
    for share in (0.01, 0.05, 0.5):
        threshold = found.threshold(share)
        rejected = float((values.double() < threshold).double().mean())
        assert share - 0.002 < rejected <= share and found.share_below(threshold) == pytest.approx(rejected, abs=1e-9)
    assert confidences(0.5, 0.5).threshold(0.4) <= 0.5


def test_figures_against_all_pairs() -> None:
    generator = torch.Generator().manual_seed(1)
    known, unknown = torch.rand(300, generator=generator), torch.rand(200, generator=generator) - 0.3
    a, b = Confidences(), Confidences()
    a.add(known)
    b.add(unknown)
    pairs = (known[:, None] > unknown).double().mean()
    assert auroc(a, b) == pytest.approx(float(pairs), abs=1e-3)
    place = unknown.sort().values[int(0.95 * 200) - 1]
    assert false_positives(a, b) == pytest.approx(float((known <= place).double().mean()), abs=0.01)
    assert auroc(a, a) == pytest.approx(0.5)
    assert auroc(confidences(0.9), confidences(0.1)) == 1 and false_positives(confidences(0.9), confidences(0.1)) == 0
    assert np.isnan(auroc(a, Confidences())) and np.isnan(false_positives(a, Confidences()))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    held = ["--data.ignore_classes", "[building]"]
    for run, options in (("whole", []), ("held", held), ("softmax", [*held, "--head", "softmax"])):
        outcome = invoke("seg.train", *TRAIN, *options, "--run_dir", folder / run)
        assert outcome.status == 0, outcome.errors
    pixels = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("run", ["whole", "held", "softmax"])
def test_pixels_below_the_threshold_are_ignored(run: str, runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    outcome = invoke("seg.calibrate", runs / run, "--false_alarms", 0.3)
    assert outcome.status == 0, outcome.errors
    kept = json.loads((runs / run / "rejection.json").read_text())
    assert kept["false_alarms"] == 0.3 and kept["images"] == 6
    assert ("auroc" in kept["unknown"]) == (run != "whole") and ("AUROC" in outcome.output) == (run != "whole")
    for folder, options in (("plain", []), ("sure", ["--reject", "--confidence"]), ("tiles", ["--reject", "--tile", "[64, 64]"])):
        predicted = invoke("seg.predict", runs / run, runs / "a.png", "-o", tmp_path / folder, *options)
        assert predicted.status == 0, predicted.errors
    plain, rejecting = (read(tmp_path / folder / "labels/a.png") for folder in ("plain", "sure"))
    confidence = read(tmp_path / "sure/confidence/a.png")
    assert confidence.dtype == np.uint8 and confidence.shape == (40, 70) and not (tmp_path / "plain/confidence").exists()
    rejected = rejecting == 255
    assert np.array_equal(rejecting[~rejected], plain[~rejected])
    assert (confidence[rejected] <= round(255 * max(kept["threshold"], 0)) + 1).all()
    assert (confidence[~rejected] >= round(255 * max(kept["threshold"], 0)) - 1).all()
    assert (read(tmp_path / "sure/colour/a.png")[rejected] == 0).all()
    assert read(tmp_path / "tiles/labels/a.png").shape == (40, 70)


def test_refusals(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    (runs / "whole/rejection.json").unlink(missing_ok=True)
    predict = ["seg.predict", runs / "whole", runs / "a.png", "-o", tmp_path / "out", "--reject"]
    require_one_line(invoke(*predict), "has no threshold for rejected pixels; choose it with python -m seg.calibrate")
    for text, message in (("{", "cannot read"), ('{"threshold": 1}', "cannot read")):
        (runs / "whole/rejection.json").write_text(text)
        require_one_line(invoke(*predict), message)
    assert invoke("seg.calibrate", runs / "whole").status == 0
    kept = json.loads((runs / "whole/rejection.json").read_text())
    (runs / "whole/rejection.json").write_text(json.dumps(kept | {"step": 2}))
    require_one_line(invoke(*predict), "is that of step 2, but the network is that of step 3")
    assert not (tmp_path / "out").exists()
    require_one_line(invoke("seg.calibrate", runs / "whole", "--false_alarms", 1), "false_alarms is 1.0; it must be above 0 and below 1")
    other = invoke("seg.calibrate", runs / "whole", "--data.scenes.num_classes", 5)
    require_one_line(other, "names and order must be equal")
    dry = invoke("seg.calibrate", runs / "whole", "--dry-run")
    assert dry.status == 0 and "would choose a threshold on 6 val images" in dry.output
