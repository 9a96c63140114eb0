"""seg.train with its encoders and recipes, as a user types them: resumed bit for bit, and logged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seg.config import SegConfig
from shared.config import parse_config
from shared.data.config import DataConfig
from shared.encoder_file import load_encoder
from shared.files.tensor_file import read_tensors

Invoke = Callable[..., Any]
SMALL = ["--data.num_workers", 0, "--data.scenes.num_classes", 7, "--data.scenes.height", 32, "--data.scenes.width", 64]
SMALL += ["--data.scenes.train_length", 8, "--data.scenes.val_length", 2, "--model.width", 16]
STEPS = ["--train.steps", 6, "--train.batch_size", 2, "--train.eval_every", 3, "--train.save_every", 2, "--train.log_every", 2]
LEARNED = ["--train.class_turn", 3, "--train.clip_norm", 1e-3]
RECIPES = {
    "lite0, learned temperature": ["--model.backbone", "efficientnet_lite0", *LEARNED, "--train.steps", 4, "--train.save_every", 4],
    "sgd": ["--train.optimizer", "sgd", "--train.learning_rate", 0.1, "--train.class_turn", "null", "--loss.temperature", 0.05],
    "hardest pixels, plain distance": ["--loss.distance", "plain", "--loss.hardest", 0.5],
    "hardest pixels, softmax": ["--head", "softmax", "--loss.hardest", 0.5],
    "hardest pixels in bands": [*LEARNED, "--loss.hardest", 0.5, "--loss.band_rows", 8],
}


def lines(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in (run / "metrics.jsonl").open()]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_stopped_run_continues_exactly(recipe: str, invoke: Invoke, tmp_path: Path) -> None:
    command = ["seg.train", *SMALL, *STEPS, *RECIPES[recipe]]
    for run, options in (("whole", []), ("resumed", ["--train.stop_after", 2]), ("resumed", [])):
        outcome = invoke(*command, *options, "--run_dir", tmp_path / run)
        assert outcome.status == 0, outcome.errors
    whole, resumed = (
        read_tensors(tmp_path / run / "checkpoints/last.safetensors", "checkpoint tensors/1")[0] for run in ("whole", "resumed")
    )
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert lines(tmp_path / "whole") == lines(tmp_path / "resumed")
    logged = [line for line in lines(tmp_path / "whole") if "learning_rate/head" in line]
    assert all(line["gradient_norm/model"] > 1e-2 for line in logged)
    if recipe in ("hardest pixels, plain distance", "hardest pixels, softmax"):
        assert "temperature.raw" not in whole
    elif recipe == "sgd":
        assert not {"temperature.raw", "clipped/model"} & {*whole, *logged[0]} and logged[0]["class_turn"] > 0
    else:
        assert "temperature.raw" in whole and {line["temperature"] for line in logged} != {0.5}
        assert all(0 < line["class_turn"] <= 3 and line["clipped/model"] == 1 for line in logged)


@pytest.mark.long
def test_the_lite0_encoder_from_the_plan_to_its_file(invoke: Invoke, tmp_path: Path) -> None:
    command = ["seg.train", *SMALL, *STEPS, "--train.steps", 1, "--model.backbone", "efficientnet_lite0", "--run_dir", tmp_path / "run"]
    plan = invoke(*command, "--dry-run")
    assert plan.status == 0 and "largest batch" in plan.output and "pretrained: true" in plan.output, plan.errors
    outcome = invoke(*command)
    assert outcome.status == 0, outcome.errors
    for program in (["seg.evaluate", tmp_path / "run"], ["seg.export", tmp_path / "run", "-o", tmp_path / "again"]):
        assert invoke(*program).status == 0
    encoder, meta = load_encoder(tmp_path / "run/encoder.safetensors")
    assert meta["backbone"] == "efficientnet_lite0" and encoder.normalise.mean.unique().tolist() == [0.5]


def test_the_backbone_follows_from_the_data_where_none_is_given() -> None:
    chosen = {}
    for name in ("scenes", "camvid"):
        model = SegConfig(data=DataConfig(name=name)).model  # type: ignore[arg-type]
        chosen[name] = (model.backbone, model.pretrained)
    assert chosen == {"scenes": ("tiny", False), "camvid": ("efficientnet_lite0", True)}
    given = parse_config(SegConfig, ["--model.backbone", "efficientnet_lite0", "--model.weights", "a.pth"], program="seg.train")
    assert given.model.pretrained is False


def test_an_unknown_encoder_is_one_line(invoke: Invoke) -> None:
    outcome = invoke("seg.train", *SMALL, "--model.backbone", "efficientnet_lite99")
    assert outcome.status == 1 and outcome.errors.strip().count("\n") == 0
    assert "the nearest names are efficientnet_lite" in outcome.errors
