"""A table of class vectors as the classifier, and classes that a training leaves out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seg.losses import exact_cross_entropy
from seg.model import EmbeddingSegmenter, Segmenter, build_segmenter
from seg.trained import load_segmenter, renamed
from shared.class_tables import read_class_table
from shared.data.spec import DatasetSpec
from shared.embedding_file import ClassEmbeddings
from shared.run.directory import RunDirectory
from tests.small import SEGMENTER, require_one_line, save_image, scenes

Invoke = Callable[..., Any]
CLASSES, WIDTH = 7, 9
DATA = scenes(classes=CLASSES, train=8, val=6)
TRAIN = [*DATA, *SEGMENTER, "--train.steps", 3, "--train.batch_size", 2, "--train.eval_every", 3]


def names_of(run: Path) -> tuple[str, ...]:
    return ClassEmbeddings.load(run / "class_embeddings.safetensors").class_names


def write_table(path: Path, names: tuple[str, ...], width: int = WIDTH, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((len(names), width))
    np.savez(path, names=np.array(names), vectors=vectors)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Path:
    """Runs `plain` and `softmax`, `fixed` and `moving` with a table, and `held` with two classes left out and the same table."""
    folder = tmp_path_factory.mktemp("runs")
    for head in ("embedding", "softmax"):
        outcome = invoke("seg.train", *TRAIN, "--head", head, "--run_dir", folder / {"embedding": "plain"}.get(head, head))
        assert outcome.status == 0, outcome.errors
    names = names_of(folder / "plain")
    write_table(folder / "table.npz", names)
    table = ["--classes.table", folder / "table.npz"]
    held = ["--data.ignore_classes", f"[{names[1]}, {names[4]}]"]
    for run, options in (("fixed", table), ("moving", [*table, "--classes.trainable"]), ("held", [*table, *held])):
        outcome = invoke("seg.train", *TRAIN, *options, "--run_dir", folder / run)
        assert outcome.status == 0, outcome.errors
    return folder


def test_the_network_learns_to_hit_the_table(runs: Path) -> None:
    names = names_of(runs / "plain")
    table = read_class_table(runs / "table.npz").vectors
    fixed, moving = (ClassEmbeddings.load(runs / run / "class_embeddings.safetensors") for run in ("fixed", "moving"))
    torch.testing.assert_close(fixed.vectors, table)
    assert fixed.class_names == names and fixed.raw.shape == (CLASSES, WIDTH)
    turned = (moving.vectors * table).sum(1)
    assert (turned < 1 - 1e-6).all() and (turned > 0.9).all()


def test_the_width_is_that_of_the_table_and_kept_with_the_run(runs: Path) -> None:
    trained = load_segmenter(RunDirectory.open(runs / "fixed"), "best", torch.device("cpu"))
    assert trained.meta["config"]["model"]["embedding_dim"] == WIDTH
    assert trained.model(torch.rand(1, 3, 32, 64)).shape == (1, WIDTH, 32, 64)


def test_a_table_run_continues(runs: Path, invoke: Invoke) -> None:
    outcome = invoke("seg.train", *TRAIN, "--classes.table", runs / "table.npz", "--run_dir", runs / "fixed", "--dry-run")
    assert outcome.status == 0, outcome.errors
    again = invoke("seg.train", *TRAIN, "--classes.table", runs / "table.npz", "--run_dir", runs / "fixed")
    assert again.status == 0, again.errors


def test_classes_that_are_left_out_are_neither_trained_nor_predicted(runs: Path) -> None:
    trained = load_segmenter(RunDirectory.open(runs / "held"), "best", torch.device("cpu"))
    assert trained.model.in_use is not None and trained.model.in_use.tolist() == [0, 2, 3, 5, 6]
    ids = trained.model.predict(torch.rand(4, 3, 64, 64))
    assert not ({1, 4} & set(ids.unique().tolist()))
    evaluation = json.loads((runs / "held/evaluation.json").read_text())
    names = names_of(runs / "held")
    embeddings = ClassEmbeddings.load(runs / "held/class_embeddings.safetensors")
    assert embeddings.meta["not_trained"] == f"{names[1]}, {names[4]}"
    assert [evaluation["class_pixels"][names[index]] for index in (1, 4)] == [0, 0]


@pytest.mark.parametrize("head", ["embedding", "softmax"])
def test_leaving_out_is_a_choice_among_the_others(head: str) -> None:
    torch.manual_seed(0)
    model = build_segmenter(head=head, backbone="tiny", num_classes=6, width=16).eval()
    images = torch.rand(2, 3, 32, 48)
    outputs = model(images)
    scores = outputs if head == "softmax" else torch.einsum("ndhw,cd->nchw", outputs, *model.class_vectors)
    scores[:, [0, 3]] = -torch.inf
    model.leave_out([3, 0], 6)
    assert torch.equal(model.predict(images), scores.argmax(1))
    model.leave_out([], 6)
    assert model.in_use is None


def test_the_loss_of_the_classes_in_use_is_that_of_a_network_that_has_no_others() -> None:
    torch.manual_seed(0)
    model = build_segmenter(head="embedding", backbone="tiny", num_classes=6, width=16).eval()
    labels = torch.randint(-1, 6, (2, 16, 16))
    labels[(labels == 1) | (labels == 4)] = -1
    outputs = model(torch.rand(2, 3, 16, 16))
    model.leave_out([1, 4], 6)
    loss = exact_cross_entropy(outputs, *model.class_vectors, model.rows_of(labels))
    few = labels.clone()
    for row, class_id in enumerate((0, 2, 3, 5)):
        few[labels == class_id] = row
    assert isinstance(model, EmbeddingSegmenter)
    torch.testing.assert_close(loss, exact_cross_entropy(outputs, model.class_embeddings[[0, 2, 3, 5]], few))
    loss.backward()
    assert model.raw_class_embeddings.grad is not None
    assert (model.raw_class_embeddings.grad.abs().sum(1) > 0).tolist() == [True, False, True, True, False, True]


@pytest.mark.parametrize(
    "options",
    [["--loss.hardest", 0.5], ["--loss.class_weights", "inverse_sqrt"], ["--loss.candidates", "neighbours"], ["--loss.band_rows", 8]],
)
def test_classes_are_left_out_whatever_the_loss(options: list[object], invoke: Invoke, tmp_path: Path) -> None:
    outcome = invoke("seg.train", *TRAIN, *options, "--data.ignore_classes", "[sky]", "--run_dir", tmp_path / "run")
    assert outcome.status == 0, outcome.errors


def test_predict_and_evaluate_with_another_table(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    """The classes of the training in another order and two new ones: the ids are those of the table."""
    names = names_of(runs / "fixed")
    own = read_class_table(runs / "table.npz").vectors.numpy()
    np.savez(tmp_path / "more.npz", names=np.array([*names[::-1], "cow", "tree"]), vectors=np.concatenate([own[::-1], -own[:2]]))
    save_image(tmp_path / "images/a.png", (32, 64))
    for table, folder in (([], "own"), (["--table", tmp_path / "more.npz"], "other")):
        outcome = invoke("seg.predict", runs / "fixed", tmp_path / "images", "-o", tmp_path / folder, *table)
        assert outcome.status == 0, outcome.errors
    ids, others = (np.asarray(Image.open(tmp_path / folder / "labels/a.png")) for folder in ("own", "other"))
    assert np.array_equal(others[others < CLASSES], (CLASSES - 1 - ids)[others < CLASSES])
    outcome = invoke("seg.evaluate", runs / "fixed", *DATA, "--table", runs / "table.npz", "--json", tmp_path / "a.json")
    assert outcome.status == 0, outcome.errors
    same = invoke("seg.evaluate", runs / "fixed", *DATA, "--json", tmp_path / "b.json")
    assert same.status == 0 and (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def test_classes_of_the_training_and_others_are_told_apart(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    every = ["--data.ignore_classes", "null", "--table", runs / "table.npz", "--json", tmp_path / "scores.json"]
    outcome = invoke("seg.evaluate", runs / "held", *every)
    assert outcome.status == 0, outcome.errors
    scores = json.loads((tmp_path / "scores.json").read_text())
    names = names_of(runs / "held")
    unseen = [scores["iou"][names[index]] for index in (1, 4)]
    seen = [scores["iou"][name] for index, name in enumerate(names) if index not in (1, 4)]
    assert scores["unseen"]["classes"] == [names[1], names[4]]
    a, b = (float(np.nanmean(np.array(values, float))) for values in (seen, unseen))
    assert scores["unseen"]["seen_miou"] == pytest.approx(a) and scores["unseen"]["unseen_miou"] == pytest.approx(b)
    assert scores["unseen"]["harmonic_mean"] == pytest.approx(2 * a * b / (a + b) if a + b else 0)
    assert "harmonic mean" in outcome.output
    own = invoke("seg.evaluate", runs / "held")
    assert own.status == 0 and "harmonic mean" not in own.output


def test_new_classes_get_colours_of_their_own() -> None:
    spec = DatasetSpec("town", ("a", "b"), np.array([[128, 0, 0], [0, 0, 9]], np.uint8))
    other = renamed(spec, ["c", "b", "d", "a"])
    assert other.class_names == ("c", "b", "d", "a")
    assert other.palette[[3, 1]].tolist() == spec.palette.tolist()
    assert len({tuple(colour) for colour in other.palette.tolist()}) == 4


def test_refusals(runs: Path, invoke: Invoke, tmp_path: Path) -> None:
    names = names_of(runs / "plain")
    write_table(tmp_path / "narrow.npz", names, 5)
    write_table(tmp_path / "few.npz", names[:3])
    table, few = ["--classes.table", tmp_path / "narrow.npz"], tmp_path / "few.npz"
    new = ["--run_dir", tmp_path / "new"]
    require_one_line(invoke("seg.train", *TRAIN, "--classes.trainable", *new), "classes.trainable is about classes.table")
    require_one_line(invoke("seg.train", *TRAIN, *table, "--head", "softmax", *new), "head softmax does not have")
    require_one_line(invoke("seg.train", *TRAIN, "--classes.table", few, *new), f"has no row for class {names[3]}")
    assert not (tmp_path / "new").exists()
    save_image(tmp_path / "a.png")
    for program, rest in (("seg.predict", [tmp_path / "a.png", "-o", tmp_path / "out"]), ("seg.evaluate", [])):
        narrow = invoke(program, runs / "fixed", *rest, "--table", tmp_path / "narrow.npz")
        require_one_line(narrow, "narrow.npz: the class vectors have 5 numbers each, but the network gives pixels 9")
        softmax = invoke(program, runs / "softmax", *rest, "--table", tmp_path / "narrow.npz")
        require_one_line(softmax, "the run has head softmax")
        require_one_line(invoke(program, runs / "fixed", *rest, "--table", tmp_path / "none.csv"), "no class table")
    require_one_line(invoke("seg.evaluate", runs / "fixed", "--table", few), f"has no row for class {names[3]}")
    assert not (tmp_path / "out").exists()


def test_segmenters_without_class_vectors_keep_their_labels() -> None:
    model: Segmenter = build_segmenter(head="softmax", backbone="tiny", num_classes=4, width=16)
    model.leave_out([0], 4)
    labels = torch.tensor([[[1, 2, -1]]])
    assert model.rows_of(labels) is labels and model.class_vectors == ()
