"""Batches and sizes that leave a normalisation a single value are refused before the first step, and so are borders without instances."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Invoke = Callable[..., Any]
SMALL = ["synth.train", "--data.num_workers", 0, "--data.scenes.num_classes", 7, "--data.scenes.height", 32, "--data.scenes.width", 64]
SMALL += ["--data.scenes.train_length", 4, "--data.scenes.val_length", 2, "--generator.width", 2, "--generator.hidden", 4]
SMALL += ["--discriminator.width", 4, "--loss.vgg_weight", 0, "--train.steps", 1, "--run_dir", "run"]


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry run", "start"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input.size", "[32, 32]", "--train.batch_size", 1], "the generator cannot be trained on batches of 1 image of 32x32"),
        (
            ["--input.size", "[64, 64]", "--generator.upsampling", "more", "--train.batch_size", 1, "--generator.norm", "sync"],
            "its first features are 1x1, of whose single value per channel batch normalisation has no deviation",
        ),
        (
            ["--input.size", "[32, 32]", "--train.batch_size", 4, "--discriminator.num_scales", 6],
            "at scale 5, of 1x1, instance normalisation 1.0.1 sees one value per channel",
        ),
        (
            ["--input.size", "[32, 64]", "--discriminator.name", "oasis", "--discriminator.depth", 6],
            "images of 32x64 cannot be halved 6 times; set discriminator.depth lower",
        ),
    ],
)
def test_refusals(options: list[object], message: str, dry: list[str], invoke: Invoke) -> None:
    outcome = invoke(*SMALL, *options, *dry)
    assert outcome.status == 1
    assert message in outcome.errors and "Traceback" not in outcome.errors
    assert not Path("run").exists()


@pytest.mark.parametrize("options", [["--input.size", "[32, 64]", "--train.batch_size", 1], ["--input.size", "[32, 32]"]])
def test_the_smallest_that_can_be_trained(options: list[object], invoke: Invoke) -> None:
    """Two values per channel; five scales of the discriminator, the last of 2x2 or 2x4."""
    outcome = invoke(*SMALL, *options, "--discriminator.num_scales", 5, "--train.ema_decay", "null")
    assert outcome.status == 0, outcome.errors


def test_borders_need_instances(invoke: Invoke, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
            Image.fromarray(np.zeros((32, 64, 3) if kind == "images" else (32, 64), np.uint8)).save(tmp_path / kind / split / "a.png")
    (tmp_path / "classes.txt").write_text("sky\n")
    folder = ["--data.name", "folder", "--data.root", tmp_path]
    outcome = invoke(*SMALL, *folder, "--input.size", "[32, 64]", "--input.instance_edges", "true", "--dry-run")
    assert outcome.status == 1
    assert "error: input.instance_edges is set, but the data set has no instance maps" in outcome.errors
