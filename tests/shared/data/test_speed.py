"""The speed of reading: samples that exist are read, and the figures add up."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from shared.data.scenes import SceneDataset
from shared.data.speed import InputSpeed, measure_input


def test_what_a_worker_does_is_both() -> None:
    assert InputSpeed(read=10, augment=15).both == pytest.approx(6)


def test_measures_samples_and_leaves_the_threads_alone() -> None:
    threads = torch.get_num_threads()
    found = measure_input(SceneDataset("train", height=16, width=32, length=3), (8, 8), (0.5, 2.0), seconds=0.05)
    assert found.read > 0 and found.augment > 0 and found.both < min(found.read, found.augment)
    assert torch.get_num_threads() == threads


def test_command(invoke: Callable[..., Any]) -> None:
    size = ["--data.scenes.height", 16, "--data.scenes.width", 32]
    outcome = invoke("shared.data", "speed", "--split", "val", "--crop", "[8, 16]", "--seconds", 0.05, *size)
    assert outcome.status == 0, outcome.errors
    assert "16x32 pixels, crop 8x16; samples per second on one core: read" in outcome.output
    assert "not valid" in invoke("shared.data", "speed", "--crop", "[0, 16]", "--split", "val").errors
