"""The straight line: segmentation → class embeddings → synthesis → comparison report, each step as the command a user types."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shared.embedding_file import ClassEmbeddings
from shared.files.tensor_file import read_tensors, write_tensors
from synth.comparison.commands import CommandLog
from tests.launcher import Launcher
from tests.small import SEGMENTER, scenes, synthesis

Invoke = Callable[..., Any]

CLASSES = 7
DATA = scenes(classes=CLASSES, train=8, val=6)
SEG = [*DATA, "--train.steps", 6, "--train.batch_size", 2, "--train.eval_every", 3, "--train.save_every", 2, "--train.log_every", 2]
SEG += SEGMENTER
SYNTH = [*DATA, *synthesis(), "--train.steps", 4, "--train.batch_size", 2, "--train.save_every", 2, "--train.log_every", 2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Path:
    """A folder with one finished run of each training program."""
    folder = tmp_path_factory.mktemp("runs")
    for head in ("embedding", "softmax"):
        outcome = invoke("seg.train", *SEG, "--head", head, "--run_dir", folder / head)
        assert outcome.status == 0, outcome.errors
    embeddings = folder / "embedding/class_embeddings.safetensors"
    for semantics in ("onehot", "learned"):
        outcome = invoke("synth.train", *SYNTH, "--semantics", semantics, "--embeddings", embeddings, "--run_dir", folder / semantics)
        assert outcome.status == 0, outcome.errors
    return folder


def checkpoint(run: Path) -> dict[str, torch.Tensor]:
    return read_tensors(run / "checkpoints/last.safetensors", "checkpoint tensors/1")[0]


def test_a_run_directory_holds_everything(runs: Path) -> None:
    names = {path.name for path in (runs / "embedding").iterdir()}
    assert names >= {"config.yaml", "metrics.jsonl", "log.txt", "environment.json", "tensorboard", "checkpoints", "evaluation.json"}
    assert names >= {"class_embeddings.safetensors", "encoder.safetensors"}
    steps = [json.loads(line)["step"] for line in (runs / "embedding/metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 3, 4, 6, 6]
    resources = [json.loads(line) for line in (runs / "embedding/resources.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in resources] == [2, 4, 6]
    assert all(entry["images_per_second"] > 0 and entry["memory/peak_mib"] > 100 for entry in resources)


@pytest.mark.parametrize(
    ("run", "watched", "pictures"),
    [
        ("embedding", ["model"], "val/image, labels, prediction"),
        ("learned", ["generator", "discriminator"], "val/labels, image, generated"),
    ],
)
def test_tensorboard_shows_a_training(run: str, watched: list[str], pictures: str, runs: Path) -> None:
    events = EventAccumulator(str(runs / run / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= {"images_per_second", "memory/peak_mib", *(f"gradient_norm/{name}" for name in watched)}
    assert any(tag.startswith("learning_rate/") for tag in events.Tags()["scalars"])
    assert events.Tags()["images"] == [pictures]


def test_exported_embeddings_are_those_of_the_best_checkpoint(runs: Path) -> None:
    embeddings = ClassEmbeddings.load(runs / "embedding/class_embeddings.safetensors")
    assert embeddings.vectors.shape == (CLASSES, 12)
    stored = read_tensors(runs / "embedding/checkpoints/best.safetensors", "checkpoint tensors/1")[0]["model.raw_class_embeddings"]
    assert torch.equal(embeddings.raw, stored)
    torch.testing.assert_close(embeddings.vectors, stored / stored.norm(dim=1, keepdim=True))


@pytest.mark.parametrize(("program", "settings", "first"), [("seg.train", SEG, "embedding"), ("synth.train", SYNTH, "learned")])
def test_a_stopped_run_continues_exactly(
    program: str, settings: list[object], first: str, runs: Path, invoke: Invoke, tmp_path: Path
) -> None:
    extra = ["--semantics", "learned", "--embeddings", runs / "embedding/class_embeddings.safetensors"] if program == "synth.train" else []
    command = [program, *settings, *extra, "--run_dir", tmp_path / "run"]
    assert invoke(*command, "--train.stop_after", 2).status == 0
    assert invoke(*command).status == 0
    whole, resumed = checkpoint(runs / first), checkpoint(tmp_path / "run")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    losses = [
        [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in (run / "metrics.jsonl").open()]
        for run in (runs / first, tmp_path / "run")
    ]
    assert losses[0] == losses[1]


def test_a_run_from_before_a_renaming_goes_on(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    """Its settings and checkpoints have the old name of an option; it continues to the same weights, and has the new name then."""
    run = tmp_path / "run"
    assert invoke("seg.train", *SEG, "--run_dir", run, "--train.stop_after", 4).status == 0
    settings = (run / "config.yaml").read_text()
    assert "  weights: null\n" in settings
    (run / "config.yaml").write_text(settings.replace("  weights: null\n", "  weights_path: null\n"))
    for path in (run / "checkpoints").iterdir():
        tensors, meta = read_tensors(path, "checkpoint tensors/1")
        model = {"weights_path" if key == "weights" else key: value for key, value in meta["config"]["model"].items()}
        write_tensors(path, tensors, "checkpoint tensors/1", meta | {"config": meta["config"] | {"model": model}})
    evaluated = invoke("seg.evaluate", run)
    assert evaluated.status == 0, evaluated.errors
    outcome = invoke("seg.train", *SEG, "--run_dir", run)
    assert outcome.status == 0, outcome.errors
    assert all(torch.equal(a, b) for a, b in zip(checkpoint(runs / "embedding").values(), checkpoint(run).values()))
    assert "  weights: null\n" in (run / "config.yaml").read_text()
    (tmp_path / "old.yaml").write_text("model: {weights_path: null}")
    refused = invoke("seg.train", "--config", tmp_path / "old.yaml")
    assert (refused.status, refused.errors) == (1, "error: model.weights_path is now model.weights; change its name in the file\n")


def test_the_written_settings_run_again(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    outcome = invoke("seg.train", "--config", runs / "embedding/config.yaml", "--run_dir", tmp_path / "again")
    assert outcome.status == 0, outcome.errors
    assert all(torch.equal(a, b) for a, b in zip(checkpoint(runs / "embedding").values(), checkpoint(tmp_path / "again").values()))


def test_a_run_is_not_continued_with_other_settings(runs: Path, invoke: Invoke) -> None:
    outcome = invoke("seg.train", *SEG, "--train.learning_rate", 0.5, "--run_dir", runs / "embedding")
    assert outcome.status == 1
    assert "train.learning_rate was" in outcome.errors


def test_evaluate_agrees_with_the_end_of_training(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    outcome = invoke("seg.evaluate", runs / "embedding", "--json", tmp_path / "figures.json")
    assert outcome.status == 0, outcome.errors
    figures, trained = (json.loads(path.read_text()) for path in (tmp_path / "figures.json", runs / "embedding/evaluation.json"))
    assert figures["miou"] == trained["miou"]
    assert figures["cumulative_miou"]["miou"][-1] == pytest.approx(figures["miou"])
    assert "road" in outcome.output


def test_predict_writes_ids_colours_and_overlays(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    outcome = invoke("seg.predict", runs / "embedding", tmp_path / "photo.jpg", "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.errors
    ids = np.array(Image.open(tmp_path / "out/labels/photo.png"))
    assert ids.shape == (20, 30)
    assert ids.max() < CLASSES
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"labels", "colour", "overlay"}


@pytest.mark.parametrize(
    ("program", "inputs", "said"),
    [
        ("seg.evaluate", ["embedding"], "would evaluate best of"),
        ("seg.predict", ["embedding", "images"], "would label 1 images with 7 classes"),
        ("seg.export", ["embedding"], "would write the exports of step"),
        ("synth.generate", ["learned", "labels"], "would generate 1 images of (32, 64) pixels"),
    ],
)
def test_dry_runs_write_nothing(program: str, inputs: list[str], said: str, runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    for folder, shape in (("images", (8, 8, 3)), ("labels", (8, 8))):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / folder / "a.png")
    output = ["--json", "out"] if program == "seg.evaluate" else ["-o", "out"]
    outcome = invoke(program, runs / inputs[0], *inputs[1:], *output, "--dry-run")
    assert outcome.status == 0, outcome.errors
    assert said in outcome.output
    assert not (tmp_path / "out").exists()


def test_export_and_inspect(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("seg.export", runs / "embedding", "-o", tmp_path / "out").status == 0
    outcome = invoke("seg.inspect", tmp_path / "out/class_embeddings.safetensors", "--crops", "--data.num_workers", 0)
    assert outcome.status == 0, outcome.errors
    written = tmp_path / "out/inspect"
    for name in ("map_neighbours", "map_main_axes", "tree", "norms"):
        assert (written / f"{name}.svg").read_text().startswith("<?xml")
    assert sum(line.startswith("road") for line in outcome.output.splitlines()) == 1
    assert "rank correlation of frequency and norm" in outcome.output
    (sprites,) = written.rglob("sprite.png")
    with Image.open(sprites) as sheet:
        assert sheet.size[0] % 32 == 0 and len(set(sheet.convert("RGB").getdata())) > 200  # pieces of images, not colours


def test_generate_needs_label_maps_only(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    for name, value in (("a", 0), ("b", 255)):
        Image.fromarray(np.full((40, 50), value, np.uint8)).save(tmp_path / f"maps/{name}.png")
    outcome = invoke("synth.generate", runs / "learned", tmp_path / "maps", "-o", tmp_path / "out")
    assert outcome.status == 0, outcome.errors
    images = [np.array(Image.open(tmp_path / f"out/{name}.png")) for name in "ab"]
    assert images[0].shape == (32, 64, 3)
    assert not np.array_equal(*images)


def test_style_gives_many_images_of_a_layout(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    style = [*SYNTH, "--generator.style_dim", 4, "--train.ema_decay", 0.9, "--input.instance_edges"]
    assert invoke("synth.train", *style, "--run_dir", tmp_path / "run").status == 0
    for folder, value in (("maps", 1), ("instances", 300)):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((32, 64), value, np.uint16 if value > 255 else np.uint8)).save(tmp_path / folder / "a.png")
    command = ["synth.generate", tmp_path / "run", tmp_path / "maps", "--instances", tmp_path / "instances", "--samples", 2]
    assert invoke(*command, "-o", tmp_path / "one").status == 0
    assert invoke(*command, "-o", tmp_path / "two").status == 0
    first, second = (np.array(Image.open(tmp_path / f"one/a_{index}.png")) for index in range(2))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, np.array(Image.open(tmp_path / "two/a_0.png")))


def test_learned_semantics_take_the_newest_export(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    missing = invoke("synth.train", *SYNTH, "--semantics", "learned", "--dry-run")
    assert missing.status == 1
    assert "run `python -m seg.train` with the same data settings first" in missing.errors
    (tmp_path / "runs/seg.train").mkdir(parents=True)
    (tmp_path / "runs/seg.train/a-001").symlink_to(runs / "embedding")
    found = invoke("synth.train", *SYNTH, "--semantics", "learned", "--dry-run")
    assert found.status == 0, found.errors
    assert "embeddings: runs/seg.train/a-001/class_embeddings.safetensors" in found.output
    assert not (tmp_path / "runs/synth.train").exists()


@pytest.fixture
def forked_commands(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of a comparison run in processes of their own that need not import torch."""
    one_at_a_time = Lock()

    def run_forked(log: CommandLog, command: Sequence[str], output: Path | None) -> tuple[int, float]:
        began = time.perf_counter()
        with one_at_a_time:
            process = launcher.start(*command)
            status = process.wait()
            assert output is not None
            output.write_text(process.errors)
        return status, time.perf_counter() - began

    monkeypatch.setattr(CommandLog, "_run", run_forked)


@pytest.mark.usefixtures("forked_commands")
def test_compare_trains_scores_and_reports(runs: Path, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    own = {"model.embedding_dim": 4, "train.steps": 2}
    variants = {"plain": {}, "D 4": {"seg": own, "synth": {"discriminator.name": "oasis_embedding"}}}
    base = {"model": {"width": 16}, "train": {"batch_size": 2, "eval_every": 2}}
    (tmp_path / "base.yaml").write_text(json.dumps(base))
    kinds = ["--variants", json.dumps(variants), "--segmentation", tmp_path / "base.yaml"]
    given = ["--segmenter", runs / "softmax", "--embeddings", runs / "embedding/class_embeddings.safetensors"]
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no network in tests")))
    noise = ["--generator.noise_channels", 2, "--samples", 2]
    command = [
        "synth.compare",
        *SYNTH,
        *given,
        *noise,
        "--semantics",
        '["learned"]',
        *kinds,
        "--pictures",
        2,
        "--jobs",
        2,
        "--run_dir",
        tmp_path / "run",
    ]
    outcome = invoke(*command)
    assert outcome.status == 0, outcome.errors
    report = json.loads((tmp_path / "run/report/report.json").read_text())
    assert [run["semantics"] for run in report["runs"]] == ["learned plain", "learned D 4"]
    own_embeddings = ClassEmbeddings.load(tmp_path / "run/embeddings-D-4/class_embeddings.safetensors")
    assert own_embeddings.vectors.shape == (CLASSES, 4)
    assert read_tensors(tmp_path / "run/learned-D-4-seed0/checkpoints/last.safetensors", "checkpoint tensors/1")[0][
        "generator.semantics.table"
    ].shape == (CLASSES + 1, 4)
    for run in report["runs"]:
        assert run["scores"].keys() == {"FD-lite0", "KD-lite0", "FD-seg", "KD-seg", "mIoU", "PAcc", "FwIoU", "PD-seg"}
        assert (run["scores"]["PD-seg"]["num_real"], run["scores"]["PD-seg"]["num_generated"]) == (6, 12)
        assert run["scores"]["FD-seg"]["num_generated"] == run["scores"]["FD-lite0"]["num_generated"] == 6
        assert run["scores"]["FD-seg"]["value"] != run["scores"]["FD-lite0"]["value"] > 0
        assert run["peak_memory"] > 100
    assert [list(scores["iou"]) for scores in report["class_scores"]] == [
        ["softmax", "embedding"],
        ["learned plain", "learned D 4"],
    ]
    assert sum(report["class_scores"][0]["pixels"]) == sum(report["class_scores"][1]["pixels"]) > 0
    assert [panel["generated"] for panel in report["panels"]] == [["softmax", "embedding"]] * 2
    assert report["versions"].keys() >= {"python", "torch", "numpy"}
    floor = report["references"][1]
    assert floor["name"] == "one half of the real images against the other"
    assert floor["scores"]["FD-seg"]["num_real"] == floor["scores"]["FD-lite0"]["num_real"] == 3
    page = (tmp_path / "run/report/index.html").read_text()
    assert "The distance is FD-lite0 and not FID, because the Inception weights were not available." in page
    assert str((tmp_path / "run/report/index.html").resolve()) in outcome.output
    # the same command again repeats no training, also where the settings were stored under a name that an option had then
    settings = tmp_path / "run/config.yaml"
    assert "\nweights: null\n" in settings.read_text()
    settings.write_text(settings.read_text().replace("\nweights: null\n", "\ninception_weights: null\n"))
    again = invoke(*command)
    assert again.status == 0, again.errors
    assert "$ python" not in again.output
