"""Rare classes from the counts to the weights: seg.train with the settings that favour them, as a user types it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from shared.files.tensor_file import read_tensors
from tests.small import SEGMENTER, scenes

Invoke = Callable[..., Any]

DATA = scenes(classes=12, train=8, val=2)
TRAIN = ["--train.steps", 6, "--train.batch_size", 2, "--train.eval_every", 6, *SEGMENTER, "--input.crop", "[24, 32]"]
SAMPLING = ["--sampling.repeat_threshold", 1, "--sampling.class_crop", 0.5]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_tensors(run / "checkpoints/last.safetensors", "checkpoint tensors/1")[0]


def require_same(ours: Path, theirs: Path) -> None:
    a, b = weights(ours), weights(theirs)
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_sampling_counts_once_resumes_exactly_and_takes_counts_from_a_file(invoke: Invoke, tmp_path: Path) -> None:
    command = ["seg.train", *DATA, *TRAIN, *SAMPLING]
    assert invoke(*command, "--run_dir", "whole").status == 0
    assert invoke(*command, "--run_dir", "stopped", "--train.stop_after", 3).status == 0
    assert (tmp_path / "stopped/statistics_train.safetensors").is_file()
    assert invoke(*command, "--run_dir", "stopped").status == 0
    require_same(tmp_path / "whole", tmp_path / "stopped")

    assert invoke("shared.data", "stats", *DATA, "--split", "train", "-o", "counts").status == 0
    assert invoke(*command, "--statistics", "counts/statistics_train.safetensors", "--run_dir", "given").status == 0
    require_same(tmp_path / "whole", tmp_path / "given")
    assert not (tmp_path / "given/statistics_train.safetensors").exists()

    assert invoke("seg.train", *DATA, *TRAIN, "--run_dir", "plain").status == 0
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "plain")
    assert not all(torch.equal(a[key], b[key]) for key in a)
