"""Bad input: one clear line, a non-zero exit, nothing half-written, nothing lost. Every case is the command a user would have typed."""

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.data import DataConfig, build_dataset
from shared.data.statistics import class_statistics
from shared.embedding_file import ClassEmbeddings
from tests.small import require_one_line, save_image, save_labels

Invoke = Callable[..., Any]
SHORT = ["--data.num_workers", 0, "--train.steps", 2, "--train.batch_size", 1, "--train.eval_every", 2, "--model.width", 16]
SMALL = [*SHORT, "--model.backbone", "tiny"]
SCENES = [*SMALL, "--data.scenes.height", 32, "--data.scenes.width", 32, "--data.scenes.train_length", 2, "--data.scenes.val_length", 2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A correct folder data set with two samples per split and three classes."""
    root = tmp_path / "data"
    for split in ("train", "val"):
        for name in ("a", "b"):
            save_image(root / f"images/{split}/{name}.png")
            save_labels(root / f"labels/{split}/{name}.png")
    (root / "classes.txt").write_text("road\nsky\ncar\n")
    return root


def train_on(folder: Path, *extra: object) -> list[object]:
    data = ["--data.name", "folder", "--data.root", folder, "--loss.num_neighbours", 2]
    return ["seg.train", *SMALL, *data, "--run_dir", "run", *extra]


def test_the_correct_folder_trains(folder: Path, invoke: Invoke) -> None:
    """With the encoder that is chosen for files where none is given."""
    data = ["--data.name", "folder", "--data.root", folder, "--loss.num_neighbours", 2]
    outcome = invoke("seg.train", *SHORT, *data, "--run_dir", "run")
    assert outcome.status == 0, outcome.errors


def test_missing_data_root(invoke: Invoke, tmp_path: Path) -> None:
    require_one_line(invoke("seg.train", "--data.name", "camvid"), "--data.root")
    require_one_line(invoke("seg.train", "--data.name", "camvid", "--data.root", tmp_path / "gone"), str(tmp_path / "gone"))
    require_one_line(invoke("synth.train", "--data.name", "camvid", "--data.root", tmp_path / "gone"), str(tmp_path / "gone"))
    assert list(tmp_path.iterdir()) == []


def _image_without_label(root: Path) -> None:
    save_image(root / "images/train/alone.png")


def _label_without_image(root: Path) -> None:
    save_labels(root / "labels/val/alone.png")


def _truncated_image(root: Path) -> None:
    path = root / "images/train/b.png"
    path.write_bytes(path.read_bytes()[:60])


def _no_image_at_all(root: Path) -> None:
    (root / "images/train/b.png").write_text("hello")


def _size_mismatch(root: Path) -> None:
    save_labels(root / "labels/train/b.png", size=(24, 33))


def _value_out_of_range(root: Path) -> None:
    save_labels(root / "labels/train/b.png", value=7)


def _too_many_classes_for_8_bit(root: Path) -> None:
    (root / "classes.txt").write_text("".join(f"class {index}\n" for index in range(300)))


def _count_another_split(root: Path) -> None:
    dataset = build_dataset(DataConfig("folder", root=str(root)), "val")
    class_statistics(dataset).save(root / "counts/statistics_val.safetensors")


@pytest.mark.parametrize(
    ("spoil", "extra", "parts"),
    [
        (_image_without_label, [], ["alone.png", "no label"]),
        (_label_without_image, [], ["alone.png", "no image"]),
        (_truncated_image, [], ["images/train/b.png", "cannot read"]),
        (_no_image_at_all, [], ["images/train/b.png", "cannot read"]),
        (_size_mismatch, [], ["labels/train/b.png", "24x33", "24x32"]),
        (_value_out_of_range, [], ["labels/train/b.png", "value 7", "allowed are 0..2 and 255 (ignored)"]),
        (_too_many_classes_for_8_bit, ["--data.folder.ignore_value", 65535], ["8 bits", "300 classes", "16 bits"]),
        (lambda root: None, ["--loss.candidates", "neighbours", "--loss.num_neighbours", 4], ["loss.num_neighbours is 4", "3 classes"]),
        (lambda root: None, ["--sampling.class_crop", 2], ["sampling.class_crop is 2", "at most 1"]),
        (_count_another_split, ["--sampling.class_crop", 1, "--statistics", "data/counts/statistics_val.safetensors"], ["split val"]),
    ],
)
def test_bad_data_and_settings(
    folder: Path, invoke: Invoke, tmp_path: Path, spoil: Callable[[Path], None], extra: list[object], parts: list[str]
) -> None:
    spoil(folder)
    require_one_line(invoke(*train_on(folder, *extra)), *parts)
    assert not list(tmp_path.glob("run/**/*.safetensors"))


@pytest.mark.parametrize("program", ["seg.train", "synth.train", "synth.compare"])
def test_unknown_key_and_value(program: str, invoke: Invoke, tmp_path: Path) -> None:
    require_one_line(invoke(program, "--train.stepz", 3), "--train.stepz", "did you mean train.steps", "Known keys", "data.root")
    require_one_line(invoke(program, "--train.steps", "many"), "train.steps", "many")
    require_one_line(invoke(program, "--data.name", "imagenet"), "data.name", "scenes", "imagenet")
    assert list(tmp_path.iterdir()) == []


def write_embeddings(path: Path, names: list[str], dataset: str) -> Path:
    vectors = torch.nn.functional.normalize(torch.arange(1.0, 1 + 2 * len(names)).view(-1, 2))
    ClassEmbeddings(vectors, vectors, tuple(names), dataset, {}).save(path)
    return path


@pytest.mark.parametrize(
    ("names", "dataset", "parts"),
    [
        (["road", "sky", "car"], "camvid", ["data set camvid"]),
        (["road", "sky"], "folder", ["2 classes", "has 3"]),
        (["sky", "road", "car"], "folder", ["class 0 is sky", "road in folder"]),
    ],
)
def test_embeddings_of_other_classes(
    folder: Path, invoke: Invoke, tmp_path: Path, names: list[str], dataset: str, parts: list[str]
) -> None:
    path = write_embeddings(tmp_path / "e.safetensors", names, dataset)
    command = ["synth.train", "--data.name", "folder", "--data.root", folder, "--semantics", "learned", "--embeddings", path]
    require_one_line(invoke(*command, "--run_dir", "run"), "e.safetensors", *parts)
    path.write_bytes(path.read_bytes()[:50])
    require_one_line(invoke(*command, "--run_dir", "run"), "e.safetensors", "cannot read")
    assert not (tmp_path / "run").exists()


def test_checkpoint_that_does_not_fit(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("seg.train", *SCENES, "--run_dir", "run").status == 0
    settings = tmp_path / "run/config.yaml"
    settings.write_text(settings.read_text().replace("embedding_dim: 12", "embedding_dim: 9"))
    before = (tmp_path / "run/checkpoints/last.safetensors").read_bytes()
    outcome = invoke("seg.train", *SCENES, "--model.embedding_dim", 9, "--train.steps", 4, "--run_dir", "run")
    require_one_line(outcome, "last.safetensors does not fit the settings", "there", "here")
    assert (tmp_path / "run/checkpoints/last.safetensors").read_bytes() == before
    require_one_line(invoke("synth.generate", "run", "run", "-o", "out"), "no checkpoint of a generator")


def test_a_run_is_not_shortened(invoke: Invoke) -> None:
    assert invoke("seg.train", *SCENES, "--run_dir", "run").status == 0
    require_one_line(invoke("seg.train", *SCENES, "--train.steps", 1, "--run_dir", "run"), "at step 2 already", "train.steps 1")


def test_output_folder_that_cannot_be_written(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    require_one_line(invoke("seg.train", *SCENES, "--run_dir", "taken/run"), "taken/run")
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        require_one_line(invoke("seg.train", *SCENES, "--run_dir", "locked/run"), "locked/run", "no permission")


def test_a_folder_with_other_files_is_not_taken_over(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    require_one_line(invoke("seg.train", *SCENES, "--run_dir", "mine"), "mine is not empty")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_no_space_while_saving_keeps_the_previous_checkpoint(invoke: Invoke, tmp_path: Path) -> None:
    """The limit on file size stands for the end of the disk: the system refuses the same write in the middle of the file."""
    assert invoke("seg.train", *SCENES, "--run_dir", "run").status == 0
    checkpoints = tmp_path / "run/checkpoints"
    before = {path.name: path.read_bytes() for path in checkpoints.iterdir()}
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    try:
        outcome = invoke("seg.train", *SCENES, "--train.steps", 4, "--run_dir", "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    require_one_line(outcome, "cannot write", "safetensors", "no space left on the disk")
    assert {path.name: path.read_bytes() for path in checkpoints.iterdir()} == before
