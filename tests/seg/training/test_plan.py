"""Trainings and evaluations that cannot be are refused in one line, by --dry-run as at the start, before anything is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Invoke = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes; the second validation image is small."""
    for split, sizes in (("train", [(130, 140), (130, 140)]), ("val", [(128, 160), (40, 30)])):
        for number, size in enumerate(sizes):
            for kind, values in (("images", np.random.default_rng(number).integers(0, 256, (*size, 3))), ("labels", np.ones(size))):
                folder = tmp_path / "data" / kind / split
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values.astype(np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "data/classes.txt").write_text("sky\nroad\n")
    return tmp_path / "data"


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry run", "start"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model.backbone", "tiny", "--input.crop", "[16, 16]", "--train.batch_size", 1],
            "tiny cannot be trained on batches of 1 image of 16x16",
        ),
        (
            ["--model.backbone", "mobilenet_v2", "--input.crop", "[9, 16]", "--train.batch_size", 1],
            "sees one value per channel, which has no deviation; 2 images or images of 18x32 would do",
        ),
        (
            ["--model.backbone", "smp/upernet/resnet18", "--input.crop", "[64, 96]", "--train.batch_size", 1],
            "batch normalisation network.decoder.psp.blocks.0.1.1 sees one value per channel",
        ),
        (
            ["--model.backbone", "smp/pan/resnet18", "--input.crop", "[128, 128]", "--train.batch_size", 2],
            "smp/pan/resnet18 cannot look at validation images of 40x30 (height x width): features vanish",
        ),
    ],
)
def test_refusals(options: list[object], message: str, dry: list[str], data: Path, invoke: Invoke) -> None:
    command = ["seg.train", "--data.name", "folder", "--data.root", data, "--data.num_workers", 0, "--train.steps", 1, *options]
    outcome = invoke(*command, "--run_dir", "run", *dry)
    assert outcome.status == 1
    errors = [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], outcome.errors
    assert not Path("run").exists()


def test_a_resize_makes_small_validation_images_possible(data: Path, invoke: Invoke) -> None:
    network = ["--model.backbone", "smp/pan/tu-test_efficientnet", "--train.batch_size", 2, "--input.resize", "[128, 128]"]
    outcome = invoke("seg.train", "--data.name", "folder", "--data.root", data, "--data.num_workers", 0, *network, "--dry-run")
    assert outcome.status == 0, outcome.errors


def test_windows_too_small_for_a_network_are_one_line(data: Path, invoke: Invoke) -> None:
    """Not known before: the settings of the views are of the evaluation."""
    train = ["seg.train", "--data.name", "folder", "--data.root", data, "--data.num_workers", 0, "--train.steps", 1]
    network = ["--model.backbone", "smp/pan/tu-test_efficientnet", "--train.batch_size", 2, "--input.resize", "[128, 128]"]
    outcome = invoke(*train, *network, "--run_dir", "run")
    assert outcome.status == 0, outcome.errors
    outcome = invoke("seg.evaluate", "run", "--views.window", "[64, 64]")
    assert outcome.status == 1
    assert "error: the network cannot look at images of 64x64 (height x width): features vanish" in outcome.errors
