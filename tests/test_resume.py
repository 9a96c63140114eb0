"""A run that is stopped and continued ends with the bits of one that is not: in every memory format, precision, optimiser and way to
compute, and in their combinations."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.run.checkpoint import read_checkpoint

Invoke = Callable[..., Any]

DATA = ["--data.num_workers", 0, "--data.scenes.num_classes", 7, "--data.scenes.height", 32, "--data.scenes.width", 64]
DATA += ["--data.scenes.train_length", 6, "--data.scenes.val_length", 2, "--train.steps", 4, "--train.batch_size", 2]
DATA += ["--train.save_every", 2, "--train.log_every", 2, "--train.threads", 1]
SEG = ["seg.train", *DATA, "--model.width", 16, "--train.eval_every", 2]
SYNTH = ["synth.train", *DATA, "--input.size", "[32, 64]", "--generator.width", 2, "--generator.hidden", 4, "--discriminator.width", 4]
SYNTH += ["--discriminator.depth", 2, "--loss.vgg_weight", 0, "--semantics", "random", "--train.ema_decay", "null"]

SEG_RUNS: list[dict[str, Any]] = [
    {"train.precision": "bf16", "model.norm": "group", "loss.band_rows": 8, "train.clip_norm": None},
    {"train.precision": "fp16", "model.norm": "sync", "train.accumulation": 2, "loss.candidates": "neighbours"},
    {"train.precision": "fp16", "loss.hardest": 0.5, "model.normalise": "before_upsampling", "model.output_stride": 8},
    {"head": "softmax", "train.precision": "bf16", "train.accumulation": 2, "loss.class_weights": "median_frequency"},
    {"loss.impl": "chunked", "loss.distance": "plain", "sampling.repeat_threshold": 0.9, "sampling.class_crop": 0.5},
    {"loss.impl": "numba", "train.not_finite": "skip", "train.weight_decay": 0.01, "train.backbone_factor": 0.1},
    {"model.backbone": "smp/unet/tu-test_efficientnet", "model.width": None, "train.precision": "bf16", "train.accumulation": 2},
]
SYNTH_RUNS: list[dict[str, Any]] = [
    {"train.channels_last": True},
    {"train.channels_last": True, "train.precision": "bf16", "train.recompute": True, "train.ema_decay": 0.9},
    {"train.channels_last": True, "train.precision": "fp16", "discriminator.name": "oasis", "generator.noise_channels": 3},
    {"train.channels_last": True, "generator.style_dim": 4, "train.accumulation": 2, "train.clip_norm": 1.0, "train.ema_decay": 0.9},
    {"train.channels_last": True, "discriminator.name": "oasis_embedding", "trainable": True, "train.recompute": True},
    {"train.precision": "fp16", "train.accumulation": 2, "generator.norm": "instance", "train.two_time_scales": False},
    {"train.precision": "bf16", "generator.style_dim": 4, "train.recompute": True, "train.fresh_fakes": False, "generator.norm": "sync"},
    {
        "discriminator.name": "oasis",
        "generator.noise_channels": 3,
        "generator.noise": "region",
        "train.recompute": True,
        "train.clip_norm": 1,
    },
    {"discriminator.name": "oasis_embedding", "trainable": True, "train.not_finite": "skip", "train.precision": "bf16"},
    {"input.instance_edges": True, "semantics": "onehot", "discriminator.num_scales": 3, "train.channels_last": True},
]
COMPILED = {"train.compile": True, "train.channels_last": True, "train.precision": "bf16"}


def title(settings: dict[str, Any]) -> str:
    return " ".join(f"{key.split('.')[-1]}={value}" for key, value in settings.items())


def require_exact(command: list[object], settings: dict[str, Any], invoke: Invoke) -> None:
    """Run to step 4, then again from the checkpoint of step 2 that this left; everything that is stored afterwards is the same."""
    options = [part for key, value in settings.items() for part in (f"--{key}", json.dumps(value) if not isinstance(value, str) else value)]
    outcome = invoke(*command, *options, "--run_dir", "whole")
    assert outcome.status == 0, outcome.errors
    shutil.copytree("whole", "resumed")
    Path("resumed/checkpoints/last.safetensors").unlink()
    outcome = invoke(*command, *options, "--run_dir", "resumed")
    assert outcome.status == 0, outcome.errors
    assert "resumed: continuing after step 2" in outcome.output
    (whole, about), (resumed, about_resumed) = (read_checkpoint(Path(run, "checkpoints/last.safetensors")) for run in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    differing = {
        key: float((whole[key].double() - resumed[key].double()).abs().max()) for key in whole if not same(whole[key], resumed[key])
    }
    assert differing == {}
    for key in ("step", "best", "evaluated", "small"):
        assert about[key] == about_resumed[key], key
    metrics = [Path(run, "metrics.jsonl").read_text().splitlines() for run in ("whole", "resumed")]
    first, second = ([json.loads(line) | {"seconds": 0} for line in lines] for lines in metrics)
    assert first == second


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("settings", SEG_RUNS, ids=title)
def test_segmentation_resumes_exactly(settings: dict[str, Any], invoke: Invoke) -> None:
    require_exact(SEG, settings, invoke)


@pytest.mark.parametrize("settings", SYNTH_RUNS, ids=title)
def test_synthesis_resumes_exactly(settings: dict[str, Any], invoke: Invoke) -> None:
    require_exact(SYNTH, settings, invoke)


@pytest.mark.minutes  # compiling the discriminator takes a minute on a CPU
def test_a_compiled_discriminator_resumes_exactly(invoke: Invoke) -> None:
    require_exact(SYNTH, COMPILED, invoke)
