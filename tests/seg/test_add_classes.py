"""New classes from a few masks: their vectors are what the pixels say, the old ones stay, and every program takes the new run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seg.losses import exact_cross_entropy
from seg.model import EmbeddingSegmenter, build_segmenter
from seg.new_classes import TEMPERATURE, MaskedPixels, collect_pixels, mean_vectors, refine_vectors
from seg.trained import load_segmenter
from seg.unit_vectors import unit_norm
from shared.constants import IGNORE_INDEX
from shared.data.batch import Batch
from shared.embedding_file import ClassEmbeddings
from shared.run.directory import RunDirectory
from tests.small import SEGMENTER, require_one_line, scenes, synthesis

Invoke = Callable[..., Any]
CPU = torch.device("cpu")
DATA = scenes(classes=6, train=8, val=6)
TRAIN = [*DATA, *SEGMENTER, "--train.steps", 3, "--train.batch_size", 2, "--train.eval_every", 3]
LABELS = np.zeros((32, 64), np.uint8)
LABELS[:16], LABELS[16:24, :32], LABELS[:, 60:] = 1, 2, 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Path:
    """The run `old`, one without the class building, and two images with masks of two classes."""
    folder = tmp_path_factory.mktemp("adding")
    for run, options in (("old", []), ("held", ["--data.ignore_classes", "[building]"]), ("soft", ["--head", "softmax"])):
        outcome = invoke("seg.train", *TRAIN, *options, "--run_dir", folder / run)
        assert outcome.status == 0, outcome.errors
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{index}.png")
        Image.fromarray(LABELS).save(folder / f"labels/{index}.png")
    (folder / "names.txt").write_text("cow\ntree\n")
    return folder


def given(folder: Path, names: str = "names.txt") -> list[object]:
    return ["--images", folder / "images", "--labels", folder / "labels", "--names", folder / names]


def add(invoke: Invoke, folder: Path, run: str, output: Path, *more: object, names: str = "names.txt") -> None:
    outcome = invoke("seg.add_classes", folder / run, *given(folder, names), "-o", output, *more)
    assert outcome.status == 0, outcome.errors


def test_vectors_are_the_mean_pixel_embeddings_and_the_old_ones_stay(folder: Path, invoke: Invoke, tmp_path: Path) -> None:
    add(invoke, folder, "old", tmp_path / "new")
    before, after = (load_segmenter(RunDirectory.open(run), "best", CPU) for run in (folder / "old", tmp_path / "new"))
    assert isinstance(before.model, EmbeddingSegmenter) and isinstance(after.model, EmbeddingSegmenter)
    assert after.spec.class_names == (*before.spec.class_names, "cow", "tree")
    assert after.spec.palette[:6].tolist() == before.spec.palette.tolist()
    images = [torch.from_numpy(np.array(Image.open(folder / f"images/{index}.png"))).permute(2, 0, 1) / 255 for index in range(2)]
    with torch.no_grad():
        pixels = torch.cat([before.model(image[None])[0].flatten(1).T for image in images])
    masks = torch.from_numpy(LABELS).flatten().repeat(2)
    means = torch.stack([pixels[masks == value].mean(0) for value in (1, 2)])
    assert torch.equal(after.model.raw_class_embeddings[:6], before.model.raw_class_embeddings)
    torch.testing.assert_close(after.model.class_embeddings[6:], unit_norm(means, dim=1))
    for name, weights in before.model.network.state_dict().items():
        assert torch.equal(weights, after.model.network.state_dict()[name]), name


def test_every_program_takes_the_new_run(folder: Path, invoke: Invoke, tmp_path: Path) -> None:
    new = tmp_path / "new"
    add(invoke, folder, "old", new, "--refine", 3)
    embeddings = ClassEmbeddings.load(new / "class_embeddings.safetensors")
    assert embeddings.class_names[6:] == ("cow", "tree") and embeddings.meta["added"] == "cow, tree"
    data = ["--data.num_workers", 0]
    for program, *arguments in (
        ("seg.predict", new, folder / "images", "-o", tmp_path / "predicted"),
        ("seg.predict", new, folder / "images", "-o", tmp_path / "last", "--checkpoint", "last"),
        ("seg.evaluate", new, *data, "--json", tmp_path / "scores.json"),
        ("seg.export", new, "-o", tmp_path / "exports"),
        ("seg.export", new, "--program", tmp_path / "network.pt2"),
        ("seg.inspect", new / "class_embeddings.safetensors", "-o", tmp_path / "inspected", *data),
        ("seg.add_classes", new, *given(folder, "more.txt"), "-o", tmp_path / "again"),
    ):
        (folder / "more.txt").write_text("horse\nsheep\n")
        outcome = invoke(program, *arguments)
        assert outcome.status == 0, (program, outcome.errors)
    assert len(json.loads((tmp_path / "scores.json").read_text())["iou"]) == 8
    assert ClassEmbeddings.load(tmp_path / "again/class_embeddings.safetensors").class_names[6:] == ("cow", "tree", "horse", "sheep")
    assert invoke("seg.evaluate", tmp_path / "again", *data).status == 0


def test_a_class_that_was_ignored_keeps_its_id_and_synthesis_takes_the_file(folder: Path, invoke: Invoke, tmp_path: Path) -> None:
    (folder / "one.txt").write_text("building\ncow\n")
    add(invoke, folder, "held", tmp_path / "new", names="one.txt")
    held, new = (load_segmenter(RunDirectory.open(run), "best", CPU) for run in (folder / "held", tmp_path / "new"))
    assert new.spec.class_names == (*held.spec.class_names, "cow") and new.model.in_use is None
    (folder / "building.txt").write_text("building\n")
    Image.fromarray(LABELS % 2).save(folder / "labels/0.png")
    Image.fromarray(LABELS % 2).save(folder / "labels/1.png")
    add(invoke, folder, "held", tmp_path / "filled", names="building.txt")
    for index in range(2):
        Image.fromarray(LABELS).save(folder / f"labels/{index}.png")
    filled = load_segmenter(RunDirectory.open(tmp_path / "filled"), "best", CPU)
    assert filled.spec.class_names == held.spec.class_names and filled.known_names == list(held.spec.class_names)
    assert invoke("seg.evaluate", tmp_path / "filled", "--data.num_workers", 0).status == 0
    synth = [*DATA, *synthesis(), "--train.steps", 1, "--train.batch_size", 2, "--semantics", "learned"]
    embeddings = tmp_path / "filled/class_embeddings.safetensors"
    outcome = invoke("synth.train", *synth, "--embeddings", embeddings, "--run_dir", tmp_path / "synth")
    assert outcome.status == 0, outcome.errors


def test_refusals(folder: Path, invoke: Invoke, tmp_path: Path) -> None:
    def require(run: str, names: str, *parts: str, more: tuple[object, ...] = ()) -> None:
        (folder / "bad.txt").write_text(names)
        outcome = invoke("seg.add_classes", folder / run, *given(folder, "bad.txt"), "-o", tmp_path / "new", *more)
        require_one_line(outcome, *parts)
        assert not (tmp_path / "new").exists()

    require("old", "cow\nbuilding\n", "bad.txt names building, which the run knows already")
    require("held", "road\nbuilding\n", "bad.txt names road, which the run knows already")
    require("old", "cow\ncow\n", "names cow more than once")
    require("old", "cow\ntree\nsheep\ngoat\n", "has a pixel of sheep (1 more), which is value 3")
    require("old", "cow\n", "holds value 2; allowed are 0..1")
    require("soft", "cow\ntree\n", "has head softmax, whose classes have no vectors")
    require("old", "cow\ntree\n", "refine is -1", more=("--refine", -1))
    outcome = invoke("seg.add_classes", folder / "old", *given(folder), "-o", folder / "held")
    require_one_line(outcome, "held is not empty")
    outcome = invoke("seg.add_classes", folder / "old", *given(folder), "-o", tmp_path / "new", "--dry-run")
    assert outcome.status == 0 and "would add cow, tree" in outcome.output and not (tmp_path / "new").exists()


def test_pixels_outside_of_the_masks_are_of_the_class_that_the_network_sees() -> None:
    torch.manual_seed(0)
    model = build_segmenter(head="embedding", backbone="tiny", num_classes=5, width=16).eval()
    assert isinstance(model, EmbeddingSegmenter)
    model.leave_out([1], 5)
    images, labels = torch.rand(1, 3, 16, 16), torch.zeros(1, 16, 16, dtype=torch.int64)
    labels[0, :4], labels[0, 4:6] = 1, IGNORE_INDEX
    pixels = collect_pixels(model, [Batch(images, labels, None, ["a"])], 1, CPU)  # type: ignore[arg-type]
    assert pixels.counts == [64]
    seen = model.predict(images)[labels == 0]
    assert (pixels.labels < 4).sum() == len(seen) and (pixels.labels == 4).sum() == 64
    assert torch.equal(torch.bincount(pixels.labels, minlength=4)[:4], torch.bincount(seen, minlength=5)[[0, 2, 3, 4]])


def test_the_refinement_lowers_the_loss_of_all_pixels_and_moves_the_new_vectors_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    old = torch.eye(4)[:2]
    mine = unit_norm(torch.tensor([0.9, 0.0, 0.5, 0.0]) + 0.1 * torch.randn(300, 4, generator=generator), dim=1)
    theirs = unit_norm(old[0] + 0.1 * torch.randn(300, 4, generator=generator), dim=1)
    labels = torch.cat([torch.full((300,), 2), torch.zeros(300, dtype=torch.int64)])
    pixels = MaskedPixels(mine.sum(0, keepdim=True).double(), [300], torch.cat([mine, theirs]), labels)
    mean = mean_vectors(pixels)
    kept = old.clone()
    refined = refine_vectors(mean, pixels, old, steps=50)

    def loss(vector: torch.Tensor) -> float:
        return float(exact_cross_entropy(pixels.embeddings, torch.cat([old, vector]), labels, temperature=TEMPERATURE))

    assert torch.equal(old, kept)
    assert torch.equal(refine_vectors(mean, pixels, old, steps=0), unit_norm(mean, dim=1))
    torch.testing.assert_close(refined.norm(dim=1), torch.ones(1))
    assert loss(refined) < loss(mean) - 0.01
