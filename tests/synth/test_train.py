"""`python -m synth.train` with every kind of discriminator and of options: it ends, resumes to the same weights, and refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.tensor_file import read_tensors

Invoke = Callable[..., Any]
SMALL = ["--data.num_workers", 0, "--data.scenes.num_classes", 30, "--data.scenes.height", 32, "--data.scenes.width", 64]
SMALL += ["--data.scenes.train_length", 8, "--data.scenes.val_length", 4, "--input.size", "[32, 64]", "--generator.width", 2]
SMALL += ["--generator.hidden", 4, "--discriminator.width", 4, "--loss.vgg_weight", 0, "--train.steps", 4, "--train.batch_size", 2]
SMALL += ["--train.save_every", 1, "--train.log_every", 2, "--semantics", "random"]


def checkpoint(run: Path) -> dict[str, torch.Tensor]:
    return read_tensors(run / "checkpoints/last.safetensors", "checkpoint tensors/1")[0]


@pytest.mark.parametrize("options", [["--discriminator.name", "oasis"], ["--discriminator.name", "oasis_embedding"]])
def test_a_stopped_run_continues_exactly(options: list[object], invoke: Invoke, tmp_path: Path) -> None:
    for name, stops in (("whole", [4]), ("stopped", [2, 4])):
        for stop in stops:
            outcome = invoke("synth.train", *SMALL, *options, "--run_dir", tmp_path / name, "--train.stop_after", stop)
            assert outcome.status == 0, outcome.errors
    whole, resumed = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "stopped")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_discriminator_without_class_vectors(invoke: Invoke, tmp_path: Path) -> None:
    arguments = [*SMALL, "--semantics", "onehot", "--discriminator.name", "oasis_embedding", "--run_dir", tmp_path / "run"]
    outcome = invoke("synth.train", *arguments)
    assert outcome.status == 1
    assert "error: semantics onehot have no class vectors; use random, learned or a table of your own" in outcome.errors
    assert not (tmp_path / "run").exists()
