"""A run is saved before it is evaluated: what ends an evaluation loses no step, and the same command makes up for it later."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.errors import InputError
from shared.run.checkpoint import read_checkpoint
from tests.test_faults import require_same

Invoke = Callable[..., Any]
TRAIN = [
    "seg.train",
    "--data.name",
    "folder",
    "--data.root",
    "data",
    "--data.num_workers",
    0,
    "--model.backbone",
    "tiny",
    "--model.width",
    16,
    "--input.crop",
    "[32, 32]",
]
TRAIN += ["--train.batch_size", 2, "--train.steps", 4, "--train.log_every", 1, "--train.threads", 1]
SYNTH = ["synth.train", "--data.num_workers", 0, "--data.scenes.height", 32, "--data.scenes.width", 64, "--data.scenes.num_classes", 7]
SYNTH += ["--data.scenes.train_length", 4, "--data.scenes.val_length", 2, "--input.size", "[32, 64]", "--generator.width", 2]
SYNTH += ["--generator.hidden", 4, "--generator.style_dim", 4, "--discriminator.width", 4, "--loss.vgg_weight", 0, "--train.steps", 3]
SYNTH += ["--train.batch_size", 2, "--semantics", "random", "--train.threads", 1]


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> None:
    """Three images of different sizes in each split."""
    numbers = np.random.default_rng(0)
    for split in ("train", "val"):
        for number, size in enumerate([(40, 50), (36, 44), (50, 40)]):
            for kind, values in (("images", numbers.integers(0, 256, (*size, 3))), ("labels", numbers.integers(0, 3, size))):
                folder = tmp_path / "data" / kind / split
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values.astype(np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "data/classes.txt").write_text("road\nsky\ncar\n")


def evaluated(run: str) -> list[int]:
    """The steps of the metrics that have scores."""
    return [entry["step"] for entry in map(json.loads, Path(run, "metrics.jsonl").read_text().splitlines()) if "val/miou" in entry]


@pytest.mark.parametrize(("every", "saved"), [(2, 2), (4, 4)], ids=["on the way", "at the end"])
def test_an_image_that_cannot_be_read_costs_nothing(every: int, saved: int, invoke: Invoke) -> None:
    """Its header is whole, so that the look before the first step, at labels and sizes, finds nothing."""
    command = [*TRAIN, "--train.eval_every", every]
    outcome = invoke(*command, "--run_dir", "whole")
    assert outcome.status == 0, outcome.errors

    picture = Path("data/images/val/1.png")
    content = picture.read_bytes()
    picture.write_bytes(content[: len(content) // 2])
    outcome = invoke(*command, "--run_dir", "run")
    errors = [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    assert outcome.status == 1 and len(errors) == 1, outcome.errors
    assert "cannot read the picture data/images/val/1.png" in errors[0]
    tensors, about = read_checkpoint(Path("run/checkpoints/last.safetensors"))
    assert (about["step"], about["evaluated"]) == (saved, 0) and tensors and evaluated("run") == []

    picture.write_bytes(content)
    outcome = invoke(*command, "--run_dir", "run")
    assert outcome.status == 0, outcome.errors
    assert f"run: continuing after step {saved}" in outcome.output
    assert evaluated("run") == evaluated("whole") == sorted({every, 4})
    require_same(Path("run"), Path("whole"))
    best, _ = read_checkpoint(Path("run/checkpoints/best.safetensors"))
    assert best.keys() == read_checkpoint(Path("whole/checkpoints/best.safetensors"))[0].keys()
    assert Path("run/evaluation.json").is_file()


def fails_once(invoke: Invoke, command: list[Any], place: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command while the function at that place fails."""

    def fail(*_: object) -> None:
        raise InputError(message)

    with monkeypatch.context() as broken:
        broken.setattr(place, fail)
        outcome = invoke(*command)
    assert outcome.status == 1 and message in outcome.errors


def test_what_follows_the_scores_may_fail_too(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores are in the metrics once, though they are computed twice."""
    command = [*TRAIN, "--train.eval_every", 2]
    assert invoke(*command, "--run_dir", "whole").status == 0
    fails_once(invoke, [*command, "--run_dir", "run"], "seg.training.monitoring.log_predictions", "the disk is full", monkeypatch)
    assert evaluated("run") == [2]
    outcome = invoke(*command, "--run_dir", "run")
    assert outcome.status == 0, outcome.errors
    assert evaluated("run") == [2, 4]
    require_same(Path("run"), Path("whole"))


def test_statistics_of_the_averaged_weights_are_made_up_for(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(*SYNTH, "--run_dir", "whole").status == 0
    fails_once(invoke, [*SYNTH, "--run_dir", "run"], "synth.training.schedule.measure_statistics", "a picture is gone", monkeypatch)
    assert read_checkpoint(Path("run/checkpoints/last.safetensors"))[1]["step"] == 3
    outcome = invoke(*SYNTH, "--run_dir", "run")
    assert outcome.status == 0, outcome.errors
    require_same(Path("run"), Path("whole"))
    assert Path("run/samples.png").read_bytes() == Path("whole/samples.png").read_bytes()
