"""Two processes that torchrun starts are one process with the joint batch: losses, gradients, statistics, figures and weights."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.files.tensor_file import read_tensors
from shared.visualise import save_png
from tests.small import SEGMENTER, scenes, synthesis

ROOT = Path(__file__).parent.parent
Invoke = Callable[..., Any]

DATA = [*scenes(classes=7, train=9, val=5), "--train.log_every", 1]
SEG = [*DATA, *SEGMENTER, "--model.dropout", 0, "--train.steps", 3, "--train.eval_every", 3]
SEG += ["--loss.class_weights", "inverse_sqrt"]
# AdamW's steps are the signs of rounding errors too, where a gradient is nothing else
SEG += ["--train.optimizer", "sgd", "--train.learning_rate", 0.1, "--train.clip_norm", 1]
SEG_RUNS = {
    "embedding": [*SEG, "--model.norm", "sync"],
    "softmax": [*SEG, "--model.norm", "sync", "--head", "softmax"],
    "accumulated": [*SEG, "--model.norm", "group", "--loss.band_rows", 8],
}
SYNTH = [*DATA, *synthesis(), "--discriminator.depth", 2]
SYNTH += ["--loss.label_mix_weight", 0, "--train.steps", 1, "--train.ema_decay", "null"]
SYNTH += ["--train.fresh_fakes", "false"]
SYNTH_RUNS = {
    "multiscale": [*SYNTH, "--generator.norm", "sync"],
    "oasis": [*SYNTH, "--generator.norm", "sync", "--discriminator.name", "oasis"],
    "accumulated synthesis": [
        *SYNTH,
        *("--generator.norm", "instance", "--semantics", "random", "--train.recompute", "true"),
        *("--discriminator.name", "oasis_embedding", "--discriminator.num_neighbours", 1),
    ],
    "style": [*SYNTH, "--generator.style_dim", 4],
}
"""What is drawn at random (styles, mixtures of images) differs between processes, and is left out or not compared."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Path:
    """A folder with every run once as one/<name> and once, by two processes, as two/<name>: 4 images an update, in up to two passes."""
    folder = tmp_path_factory.mktemp("runs")
    commands, threads = [], torch.get_num_threads()
    for name, options in (SEG_RUNS | SYNTH_RUNS).items():
        program = "seg.train" if name in SEG_RUNS else "synth.train"
        outcome = invoke(program, *options, "--train.batch_size", 4, "--train.threads", 1, "--run_dir", folder / "one" / name)
        assert outcome.status == 0, outcome.errors
        passes = 2 if "accumulated" in name else 1
        shared = ["--train.batch_size", 2 // passes, "--train.accumulation", passes, "--run_dir", folder / "two" / name]
        commands.append([program, *options, *shared])
    for side in ("real", "generated"):
        for index in range(5):
            save_png(
                np.random.default_rng(index).integers(0, 256 if side == "real" else 128, (32, 48, 3), np.uint8),
                folder / side / f"{index}.png",
            )
    for side in ("one", "two"):
        distance = ["shared.fid", folder / "real", folder / "generated", "--features", folder / "one/softmax/encoder.safetensors"]
        commands.append([*distance, "--subsets", 5, "--cache", "null", "--json", folder / side / "distance.json"])
    outcome = invoke(*commands.pop(-2))
    assert outcome.status == 0, outcome.errors
    commands.append(["seg.evaluate", folder / "one/softmax", "--json", folder / "two/evaluation.json", "--data.num_workers", 0])
    torch.set_num_threads(threads)
    (folder / "commands").write_text("".join(json.dumps([str(word) for word in command]) + "\n" for command in commands))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*torchrun, str(ROOT / "tests/several_processes.py"), str(folder / "commands")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return folder


def checkpoints(runs: Path, name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    alone, together = (runs / side / name / "checkpoints/last.safetensors" for side in ("one", "two"))
    first, second = (read_tensors(path, "checkpoint tensors/1")[0] for path in (alone, together))
    assert first.keys() == second.keys()
    return first, second


def metrics(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.long
@pytest.mark.parametrize("name", SEG_RUNS)
def test_two_processes_train_what_one_trains(runs: Path, name: str) -> None:
    """Every loss and figure on the way, and the weights, statistics and moments that the gradients of three updates leave."""
    alone, together = metrics(runs / "one" / name), metrics(runs / "two" / name)
    assert [entry["step"] for entry in together] == [1, 2, 3, 3]
    for one, two in zip(alone, together, strict=True):
        assert {**two, "seconds": 0} == pytest.approx({**one, "seconds": 0}, rel=1e-4)
    first, second = checkpoints(runs, name)
    errors = {
        key: ((second[key] - tensor).double().norm() / tensor.double().norm().clamp_min(1e-3)).item() for key, tensor in first.items()
    }
    # an activation that rounding takes across zero moves the layer before it by more, and no other
    rough = {key: error for key, error in errors.items() if error > 1e-3}
    assert len(rough) <= 0.05 * len(errors) and max(errors.values()) < 0.03, rough


@pytest.mark.parametrize("name", [name for name in SYNTH_RUNS if name != "style"])
def test_two_processes_make_the_gradients_of_one(runs: Path, name: str) -> None:
    """Losses, statistics, and the gradients of both networks, which Adam's first moments are."""
    (alone,), (together,) = metrics(runs / "one" / name), metrics(runs / "two" / name)
    assert {**together, "seconds": 0} == pytest.approx({**alone, "seconds": 0}, rel=1e-4)
    first, second = checkpoints(runs, name)
    compared = [key for key in first if key.endswith(("exp_avg", "running_mean", "running_var", "weight_u"))]
    assert {key.split(".")[0] for key in compared} >= {"generator_optimizer", "discriminator_optimizer", "generator"}
    largest = {key.split(".")[0]: 0.0 for key in compared}
    for key in compared:
        largest[key.split(".")[0]] = max(largest[key.split(".")[0]], float(first[key].abs().max()))
    for key in compared:  # biases before a normalisation have gradients that are nothing but rounding
        torch.testing.assert_close(second[key], first[key], rtol=1e-3, atol=1e-5 * largest[key.split(".")[0]], msg=key)


def test_the_divergence_of_styles_is_a_sum_over_all_images(runs: Path) -> None:
    (alone,), (together,) = metrics(runs / "one/style"), metrics(runs / "two/style")
    assert together["generator/kl"] == pytest.approx(alone["generator/kl"], rel=1e-4)


def test_two_processes_count_the_pixels_of_one(runs: Path) -> None:
    """Of the same network on 5 images: at the end of its training, and by the program that two processes are."""
    alone, together = (json.loads((runs / path).read_text()) for path in ("one/softmax/evaluation.json", "two/evaluation.json"))
    assert together["labelled_pixels"] == alone["labelled_pixels"] > 0
    assert together["miou"] == pytest.approx(alone["miou"], abs=1e-3) and together["iou"].keys() == alone["iou"].keys()


def test_two_processes_measure_the_distances_of_one(runs: Path) -> None:
    """Each reads its share of 5 images a side."""
    alone, together = (json.loads((runs / side / "distance.json").read_text()) for side in ("one", "two"))
    assert alone["count_real"] == 5 and alone["distance"] > 0
    numbers = {name: value for name, value in alone.items() if isinstance(value, (int, float))}
    assert {name: together[name] for name in numbers} == pytest.approx(numbers, rel=1e-5)
