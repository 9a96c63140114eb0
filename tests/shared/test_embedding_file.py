"""The embedding file: round trip, and one clear line for everything that can be wrong with it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize

from shared.data.spec import DatasetSpec
from shared.embedding_file import ClassEmbeddings
from shared.errors import InputError
from shared.files.tensor_file import read_tensors, write_tensors

NAMES = ("sky", "road", "tree")


def embeddings(**changes: object) -> ClassEmbeddings:
    raw = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    parts = {
        "vectors": normalize(raw, dim=1),
        "raw": raw,
        "class_names": NAMES,
        "dataset": "park",
        "meta": {"step": 3, "miou": 0.5, "run": "a"},
    }
    return ClassEmbeddings(**(parts | changes))  # type: ignore[arg-type]


def spec(name: str = "park", names: tuple[str, ...] = NAMES) -> DatasetSpec:
    return DatasetSpec(name, names, np.zeros((len(names), 3), np.uint8))


def test_round_trip(tmp_path: Path) -> None:
    path, saved = tmp_path / "new" / "class_embeddings.safetensors", embeddings()
    saved.save(path)
    loaded = ClassEmbeddings.load(path)
    assert torch.equal(loaded.vectors, saved.vectors)
    assert torch.equal(loaded.raw, saved.raw)
    assert (loaded.class_names, loaded.dataset, loaded.meta) == (NAMES, "park", saved.meta)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("sky", "road", "sky")}, "class name sky occurs 2 times"),
        ({"class_names": ("sky", "road")}, "2 class names for 3 vectors"),
        ({"vectors": torch.full((3, 5), 2.0)}, r"class 0 \(sky\) has norm 4.472"),
        ({"raw": torch.full((3, 5), float("nan"))}, "raw holds values that are not finite, first in class 0"),
        ({"raw": torch.zeros(3, 4)}, r"vectors is torch.float32 of shape \(3, 5\)"),
        ({"raw": torch.zeros(3, 5, dtype=torch.float64)}, "raw is torch.float64"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        embeddings(**changes)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*nothing.safetensors; class embeddings were expected"):
        ClassEmbeddings.load(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_file_cut_short(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.safetensors"
    embeddings().save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"cannot read .*cut.safetensors") as caught:
        ClassEmbeddings.load(path)
    assert "\n" not in str(caught.value)


def test_a_safetensors_file_of_another_kind(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="of format None; class embeddings"):
        ClassEmbeddings.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("lost", ["raw", "dataset"])
def test_missing_parts_are_named(tmp_path: Path, lost: str) -> None:
    path = tmp_path / "e.safetensors"
    embeddings().save(path)
    tensors, about = read_tensors(path, "class embeddings/1")
    (tensors if lost in tensors else about).pop(lost)
    write_tensors(path, tensors, "class embeddings/1", about)
    with pytest.raises(InputError, match=f"e.safetensors lacks {lost}"):
        ClassEmbeddings.load(path)


def test_a_damaged_value_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    saved = embeddings()
    saved.vectors[1] *= 3
    saved.save(path)
    with pytest.raises(InputError, match=r"e.safetensors: the vector of class 1 \(road\) has norm 3; unit norm"):
        ClassEmbeddings.load(path)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "e.safetensors"
    embeddings().save(path)
    old = path.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shared.files.tensor_file.save_file", full_disk)
    with pytest.raises(InputError, match="no space left"):
        embeddings().save(path)
    assert path.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


def test_the_same_classes_match() -> None:
    embeddings().require_match(spec(), "e.safetensors")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (spec(name="town"), "e.safetensors holds embeddings of data set park, but the data is town"),
        (spec(names=("sky", "road")), "e.safetensors holds 3 classes, but park has 2"),
        (spec(names=("sky", "tree", "road")), "class 1 is road in e.safetensors, but tree in park"),
    ],
)
def test_other_classes_are_refused(other: DatasetSpec, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embeddings().require_match(other, "e.safetensors")
