"""Faults that are really made: processes killed, files cut, disks filled. A training goes on from them as if nothing had been."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.run.checkpoint import read_checkpoint
from tests.launcher import Launcher
from tests.small import SEGMENTER, scenes, synthesis

Invoke = Callable[..., Any]
SCENES = [
    *scenes(classes=7, train=6, val=2, workers=1),
    "--train.batch_size",
    1,
    "--train.threads",
    1,
    "--train.log_every",
    3,
    "--train.save_every",
    2,
]
SEG = ["seg.train", *SCENES, *SEGMENTER, "--train.steps", 12, "--train.eval_every", 5]
SYNTH = ["synth.train", *SCENES, *synthesis(), "--semantics", "random", "--train.steps", 6, "--generator.style_dim", 4]


def results(run: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], list[dict[str, Any]]]:
    """Every tensor, step, best score and means of the last checkpoint, and the metrics without the time they took."""
    tensors, meta = read_checkpoint(run / "checkpoints/last.safetensors")
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return tensors, {key: meta[key] for key in ("step", "best", "small")}, [entry | {"seconds": None} for entry in metrics]


def require_same(run: Path, whole: Path) -> None:
    (tensors, meta, metrics), (expected, *others) = results(run), results(whole)
    assert [meta, metrics] == others
    assert tensors.keys() == expected.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], expected[name])] == []


def kill_at_random(command: list[object], launcher: Launcher, kills: int) -> None:
    """Run `command` in `whole`, and in `run` with kills at random moments of its life; the results are the same."""
    began = time.monotonic()
    whole = launcher.start(*map(str, command), "--run_dir", "whole")
    assert whole.wait() == 0, whole.errors
    seconds, chance = time.monotonic() - began, random.Random(0)
    for _ in range(kills):
        process = launcher.start(*map(str, command), "--run_dir", "run")
        time.sleep(chance.uniform(0.1, 0.9) * seconds)
        chance.choice((os.kill, os.killpg))(process.pid, signal.SIGKILL)  # workers that are left over end by themselves
        status = process.wait()
        assert status in (-signal.SIGKILL, 0), process.errors
    process = launcher.start(*map(str, command), "--run_dir", "run")
    assert process.wait() == 0, process.errors
    require_same(Path("run"), Path("whole"))
    assert not list(Path("run").rglob("*.tmp"))


@pytest.mark.parametrize(("command", "kills"), [(SEG, 2), (SYNTH, 1)])
def test_kills_change_nothing(command: list[object], kills: int, launcher: Launcher) -> None:
    kill_at_random(command, launcher, kills)


@pytest.mark.minutes
@pytest.mark.parametrize("command", [SEG, SYNTH])
def test_twenty_kills_change_nothing(command: list[object], launcher: Launcher) -> None:
    kill_at_random([*command, "--train.steps", 60, "--train.save_every", 1], launcher, kills=20)


def test_a_spoilt_checkpoint_is_named_and_the_one_before_is_used(invoke: Invoke) -> None:
    command = [*SEG, "--data.num_workers", 0, "--train.steps", 5]
    for run, stop in (("whole", 5), ("run", 4)):
        outcome = invoke(*command, "--run_dir", run, "--train.stop_after", stop)
        assert outcome.status == 0, outcome.errors
    last = Path("run/checkpoints/last.safetensors")
    last.write_bytes(last.read_bytes()[:-9])
    outcome = invoke(*command, "--run_dir", "run")
    assert outcome.status == 0, outcome.errors
    said = next(line for line in outcome.output.splitlines() if "damaged" in line)
    assert "last.safetensors" in said
    assert "the run goes on from the checkpoint before it" in said
    assert "run: continuing after step 2" in outcome.output
    require_same(Path("run"), Path("whole"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 9 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_space(small_disk: Path, invoke: Invoke) -> None:
    """There is space for two checkpoints of 3.4 MiB and not for three: SGD keeps one number beside every weight."""
    command = [
        *SEG,
        "--train.optimizer",
        "sgd",
        "--train.class_turn",
        "null",
        "--data.num_workers",
        0,
        "--train.steps",
        6,
        "--run_dir",
        small_disk / "run",
    ]
    outcome = invoke(*command)
    assert outcome.status == 1
    errors = [line for line in outcome.errors.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, outcome.errors
    assert "no space left on the disk" in errors[0]
    assert not list(small_disk.rglob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=40m", small_disk], check=True)
    outcome = invoke(*command)
    assert outcome.status == 0, outcome.errors
    assert "continuing after step 4" in outcome.output
