"""`synth.convert` as a user runs it: published files to a run that generates, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared.data.label_rules import LabelRule
from shared.data.labels import LabelCodes
from shared.run.directory import RunDirectory
from synth.checkpoints import load_official_generator, save_official
from synth.encoder import StyleEncoder
from synth.generator import SpadeGenerator
from synth.images.layout_files import label_rules
from synth.published import LabelConvention
from synth.semantics import build_semantics
from synth.trained import load_generator

Invoke = Callable[..., Any]
FIRST = ["--crop_size", 64, "--aspect_ratio", 2, "--upsampling", "normal", "--unknown", "first", "--instance_edges", "false"]


def write_generator(path: Path, channels: int = 5, **options: Any) -> None:
    torch.manual_seed(0)
    network = SpadeGenerator(build_semantics("onehot", channels - 1), image_size=(32, 64), width=2, hidden=3, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    save_official(network, path)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    write_generator(tmp_path / "latest_net_G.pth")
    return tmp_path / "latest_net_G.pth"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A label file as this model's training had: 0 unknown, 1..4 classes."""
    values = np.random.default_rng(0).integers(0, 5, (4, 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(values).save(tmp_path / "layout.png")
    return tmp_path / "layout.png"


def same_tensors(first: Path, second: Path) -> bool:
    one, two = (torch.load(path, weights_only=True) for path in (first, second))
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def require_error(outcome: Any, *parts: str) -> None:
    assert outcome.status == 1, outcome
    assert "Traceback" not in outcome.errors
    assert all(part in outcome.errors for part in parts), outcome.errors


def test_there_and_back(published: Path, labels: Path, invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("road\nsky\ncar\ntree\n")
    given = [*FIRST, "--label_offset", 1, "--ignore_value", 0, "--class_names", tmp_path / "names.txt"]
    outcome = invoke("synth.convert", published, "-o", "run", *given)
    assert outcome.status == 0, outcome.errors
    trained = load_generator(RunDirectory.open("run"), torch.device("cpu"))
    assert trained.spec.class_names == ("road", "sky", "car", "tree")
    assert trained.generator.published_labels == LabelConvention("first", False)

    outcome = invoke("synth.generate", "run", labels, "-o", "images")
    assert outcome.status == 0, outcome.errors
    direct = load_official_generator(published, crop_size=64, aspect_ratio=2, upsampling="normal", labels=LabelConvention("first"))
    label_map = torch.from_numpy(np.array(Image.open(labels)).astype(int))[None] - 1
    with torch.no_grad():
        expected = ((direct(label_map)[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(np.array(Image.open("images/layout.png")), expected)

    outcome = invoke("synth.convert", "run", "-o", "back")
    assert outcome.status == 0, outcome.errors
    assert "--label_nc 4 --contain_dontcare_label --no_instance" in outcome.output
    assert same_tensors(published, tmp_path / "back/latest_net_G.pth")


@pytest.mark.parametrize("rank", [2, 5])
def test_embedding_conditioning(published: Path, labels: Path, invoke: Invoke, tmp_path: Path, rank: int) -> None:
    for name, extra in (("onehot", []), ("vectors", ["--rank", rank])):
        outcome = invoke("synth.convert", published, "-o", name, *FIRST, "--label_offset", 1, "--ignore_value", 0, *extra)
        assert outcome.status == 0, outcome.errors
        assert invoke("synth.generate", name, labels, "-o", f"{name}-images").status == 0
    assert f"rank {rank}: relative error of the class kernels" in outcome.output
    onehot, vectors = (load_generator(RunDirectory.open(name), torch.device("cpu")) for name in ("onehot", "vectors"))
    assert vectors.generator.semantics.table is not None and vectors.generator.semantics.table.shape == (5, rank)
    assert vectors.generator.semantics.table[-1].any()
    assert vectors.meta["factorisation"]["rank"] == rank and onehot.meta.get("factorisation") is None
    pictures = [np.array(Image.open(f"{name}-images/layout.png")).astype(int) for name in ("onehot", "vectors")]
    assert (np.abs(pictures[0] - pictures[1]).max() <= 1) == (rank == 5)
    assert invoke("synth.convert", "vectors", "-o", "back").status == 0
    back = torch.load("back/latest_net_G.pth", weights_only=True)
    assert {key: value.shape for key, value in back.items()} == {
        key: value.shape for key, value in torch.load(published, weights_only=True).items()
    }


def test_style(labels: Path, invoke: Invoke, tmp_path: Path) -> None:
    write_generator(tmp_path / "G.pth", z_dim=4)
    torch.manual_seed(1)
    save_official(StyleEncoder(image_size=64, width=2, z_dim=4), tmp_path / "E.pth")
    save_official(StyleEncoder(image_size=64, width=2, z_dim=5), tmp_path / "other.pth")
    given = [*FIRST, "--label_offset", 1, "--ignore_value", 0]
    require_error(invoke("synth.convert", "G.pth", "-o", "run", *given), "G.pth is a generator with style; give its latest_net_E.pth")
    outcome = invoke("synth.convert", "G.pth", "-o", "run", *given, "--style_encoder", "other.pth")
    require_error(outcome, "other.pth is not the encoder of this generator of 4 style values and 32x64 pixels")
    assert not (tmp_path / "run").exists()
    assert invoke("synth.convert", "G.pth", "-o", "run", *given, "--style_encoder", "E.pth").status == 0
    assert invoke("synth.generate", "run", labels, "-o", "images", "--samples", 2).status == 0
    assert len(list((tmp_path / "images").iterdir())) == 2
    assert invoke("synth.convert", "run", "-o", "back").status == 0
    assert all(same_tensors(tmp_path / f"{name}.pth", tmp_path / f"back/latest_net_{name}.pth") for name in "GE")


def test_runs_of_training_become_published_files(invoke: Invoke, tmp_path: Path) -> None:
    """Random semantics become one-hot kernels; the average is what is written."""
    data = ["--data.scenes.height", 32, "--data.scenes.width", 64, "--data.scenes.train_length", 4, "--data.num_workers", 0]
    small = ["--input.size", "[32, 64]", "--generator.width", 2, "--generator.hidden", 4, "--discriminator.width", 4]
    train = ["--loss.vgg_weight", 0, "--train.steps", 2, "--train.batch_size", 2, "--train.ema_decay", 0.5]
    outcome = invoke("synth.train", *data, *small, *train, "--semantics", "random", "--embedding_dim", 3, "--run_dir", "run")
    assert outcome.status == 0, outcome.errors
    dry = invoke("synth.convert", "run", "-o", "back", "--dry-run")
    assert dry.status == 0 and "would write back/latest_net_G.pth" in dry.output and not (tmp_path / "back").exists()
    outcome = invoke("synth.convert", "run", "-o", "back")
    assert outcome.status == 0, outcome.errors
    assert "hidden width 4 where it has 128" in outcome.output
    trained = load_generator(RunDirectory.open("run"), torch.device("cpu")).generator
    loaded = load_official_generator("back/latest_net_G.pth", crop_size=64, aspect_ratio=2, upsampling="normal")
    label_map = torch.randint(-1, trained.semantics.num_classes, (1, 32, 64))
    with torch.no_grad():
        torch.testing.assert_close(loaded(label_map), trained(label_map), rtol=0, atol=1e-5)


def test_dry_run(published: Path, invoke: Invoke, tmp_path: Path) -> None:
    outcome = invoke("synth.convert", published, "-o", "run", *FIRST, "--rank", 3, "--dry-run")
    assert outcome.status == 0, outcome.errors
    assert "generator of 4 classes, images of 32x64 pixels" in outcome.output
    assert "rank 3: relative error" in outcome.output and "would write run" in outcome.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], ["the weights do not tell --crop_size, --aspect_ratio, --unknown, --instance_edges", "--model cityscapes or coco or ade20k"]),
        (FIRST[:4], ["the weights do not tell --unknown, --instance_edges"]),
        ([*FIRST[:4], *FIRST[6:]], ["normal and more have the same weights"]),
        (["--model", "ade20k"], ["model ade20k was given, which has 150 classes; this generator has 4"]),
        ([*FIRST, "--aspect_ratio", 0], ["aspect_ratio is 0.0; it must be more than 0"]),
        ([*FIRST, "--style_encoder", "E.pth"], ["style_encoder E.pth was given, but the generator has no style"]),
        ([*FIRST, "--rank", 9], ["rank is 9", "1..5"]),
        ([*FIRST, "--class_names", "gone.txt"], ["cannot read the class names file gone.txt: No such file", "--class_names"]),
        ([*FIRST, "--class_names", "names.txt"], ["names.txt holds 3 class names, 2 of them different; the generator has 4 classes"]),
        ([*FIRST, "--ignore_value", 2], ["value 2 is ignored and is also class 2 of 4"]),
        (["-o", "full", *FIRST], ["full is there already and not an empty folder"]),
    ],
)
def test_refusals(published: Path, invoke: Invoke, tmp_path: Path, given: list[object], said: list[str]) -> None:
    (tmp_path / "names.txt").write_text("road\nsky\nroad\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("precious")
    require_error(invoke("synth.convert", published, *([] if "-o" in given else ["-o", "run"]), *given), *said)
    assert not (tmp_path / "run").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_runs_know_their_settings(published: Path, invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("synth.convert", published, "-o", "run", *FIRST).status == 0
    require_error(invoke("synth.convert", "run", "-o", "back", "--rank", 2), "run is a run, which knows its settings; leave out --rank")
    (tmp_path / "empty").mkdir()
    require_error(invoke("synth.convert", "empty", "-o", "back"), "empty is no run directory")
    require_error(invoke("synth.convert", "gone.pth", "-o", "back", *FIRST), "no file gone.pth")


def test_published_models_by_name(invoke: Invoke, tmp_path: Path) -> None:
    write_generator(tmp_path / "G.pth", channels=151)
    outcome = invoke("synth.convert", "G.pth", "-o", "run", "--model", "ade20k")
    assert outcome.status == 0, outcome.errors
    trained = load_generator(RunDirectory.open("run"), torch.device("cpu"))
    assert trained.spec.num_classes == 150 and trained.spec.name == "ade20k"
    assert label_rules(trained.meta).rules == (LabelRule(LabelCodes(150, 1, 0)),)
    assert trained.generator.image_size == (256, 256)
    assert trained.generator.published_labels.unknown == "first"
