"""A run continues with the images of an update spread otherwise, and says what that changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.errors import InputError
from shared.files.tensor_file import write_tensors
from shared.run.checkpoint import FORMAT, read_checkpoint
from shared.run.training import Spread, explain_change
from tests.test_faults import SEG

Invoke = Callable[..., Any]


def test_what_is_said_of_a_change() -> None:
    assert explain_change(Spread(2, 1, 4), Spread(2, 1, 4), "here") == ""
    assert "8 images an update (1 processes × 2 passes × batches of 4): the same" in explain_change(
        Spread(2, 1, 4), Spread(1, 2, 4), "here"
    )
    assert "other images come next" in explain_change(Spread(2, 1, 4), Spread(1, 1, 4), "here")
    with pytest.raises(InputError, match=r"here was saved with 8 images .* would continue with 4 images"):
        explain_change(Spread(2, 1, 4), Spread(2, 1, 2), "here")


def test_a_training_continues_with_the_same_images_in_two_passes(invoke: Invoke) -> None:
    command = [*SEG, "--data.num_workers", 0, "--train.steps", 4, "--run_dir", "run"]
    assert invoke(*command, "--train.batch_size", 2, "--train.stop_after", 2).status == 0
    refused = invoke(*command, "--train.batch_size", 1)
    assert refused.status == 1
    assert "was saved with 2 images an update (1 processes × 1 passes × batches of 2) and would continue with 1 images" in refused.errors
    path = Path("run/checkpoints/last.safetensors")
    tensors, meta = read_checkpoint(path)
    write_tensors(path, tensors, FORMAT, meta | {"processes": 2, "config": {"train": {"batch_size": 1, "accumulation": 1}}})
    outcome = invoke(*command, "--train.batch_size", 1, "--train.accumulation", 2)
    assert outcome.status == 0, outcome.errors
    assert "there were 2 images an update (2 processes × 1 passes × batches of 1) and are now 2 images" in outcome.output
    assert "continuing after step 2" in outcome.output
