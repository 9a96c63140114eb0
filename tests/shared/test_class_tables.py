"""Class tables of every format: rows come to their classes, and bad files are refused in one line that names class and file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.class_tables import read_class_table
from shared.embedding_file import ClassEmbeddings
from shared.errors import InputError

NAMES = ("road", "traffic light", "car")
ROWS = np.array([[3.0, 4.0], [0.0, -2.0], [1.0, 0.0]])
UNIT = torch.tensor([[0.6, 0.8], [0.0, -1.0], [1.0, 0.0]])


def write(path: Path, names: tuple[str, ...] = NAMES, rows: Any = ROWS) -> Path:
    if path.suffix == ".npz":
        np.savez(path, names=np.array(names), vectors=np.asarray(rows))
    elif path.suffix == ".npy":
        np.save(path, rows)
    elif path.suffix == ".csv":
        lines = [",".join([f'"{name}"', *map(str, row)]) for name, row in zip(names, np.asarray(rows).tolist())]
        path.write_text("\n".join(["class,x,y", *lines]) + "\n")
    else:
        ClassEmbeddings(UNIT, torch.tensor(ROWS).float(), names, "town", {}).save(path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".npy", ".csv"])
def test_rows_come_to_their_classes(suffix: str, tmp_path: Path) -> None:
    table = read_class_table(write(tmp_path / f"table{suffix}"))
    order = NAMES if table.names is None else NAMES[::-1]
    expected = UNIT if table.names is None else UNIT.flip(0)
    torch.testing.assert_close(table.rows_of(order, "town"), expected)


def test_a_csv_needs_no_titles(tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    torch.testing.assert_close(read_class_table(path).rows_of(NAMES, "town"), UNIT)


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
@pytest.mark.parametrize(
    ("names", "rows", "message"),
    [
        (NAMES[:2], ROWS[:2], "has no row for class car of town; add it"),
        (NAMES[:1], ROWS[:1], r"has no row for class traffic light of town \(1 more\); add it"),
        ((*NAMES, "sky"), np.ones((4, 2)), "has a row for sky, which is no class of town; remove it"),
        (("road", "car", "car"), ROWS, "has 2 rows for class car; keep one"),
        (NAMES, [[1, 2], [float("nan"), 0], [1, 0]], "the row of class traffic light in .* holds a value that is not finite"),
        (NAMES, [[1, 2], [1, 0], [0, 0]], "the row of class car in .* is zero; every class needs a direction"),
    ],
)
def test_bad_rows(names: tuple[str, ...], rows: Any, message: str, suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"table{suffix}", names, rows)
    with pytest.raises(InputError, match=message) as error:
        read_class_table(path).rows_of(NAMES, "town")
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "road,1,2\ncar,1\n", "the row of class car in .*a.csv holds 1 numbers; 2 were expected"),
        ("a.csv", "road,1,2\ncar,1,red\n", "the row of class car in .* holds 'red'"),
        ("a.csv", "", r"holds float64 of shape \(0,\)"),
        ("a.npz", "no archive", "cannot read .*a.npz"),
        ("a.npy", "no array", "cannot read .*a.npy"),
        ("a.txt", "road 1 2", r"its name must end in \.safetensors, \.npz, \.npy, \.csv"),
        ("a.safetensors", "nothing", "cannot read .*a.safetensors"),
    ],
)
def test_bad_files(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_class_table(tmp_path / name)


def test_more_bad_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", names=np.array(NAMES))
    with pytest.raises(InputError, match="holds names; arrays names"):
        read_class_table(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", names=np.array(NAMES), vectors=ROWS[:2])
    with pytest.raises(InputError, match="has 3 names for 2 rows"):
        read_class_table(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", ROWS[0])
    with pytest.raises(InputError, match=r"holds float64 of shape \(2,\)"):
        read_class_table(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", ROWS)
    with pytest.raises(InputError, match="has 3 rows without names, but town has 2 classes"):
        read_class_table(tmp_path / "d.npy").rows_of(NAMES[:2], "town")
    with pytest.raises(InputError, match=r"no class table .*e\.npy"):
        read_class_table(tmp_path / "e.npy")


def test_the_commands_refuse_before_anything_is_written(invoke: Callable[..., Any], tmp_path: Path) -> None:
    data = ["--data.scenes.num_classes", 4, "--loss.vgg_weight", 0, "--run_dir", tmp_path / "run"]
    path = write(tmp_path / "words.csv")
    for name, message in (
        (path, f"error: {path} has no row for class building of scenes-4 (2 more); add it"),
        (
            "words",
            "error: unknown semantics 'words'; choose one of onehot, onehot_dense, random, ",
        ),
        (tmp_path / "none.npz", f"error: no class table {tmp_path / 'none.npz'}"),
    ):
        outcome = invoke("synth.train", *data, "--semantics", name)
        assert outcome.status == 1 and message in outcome.errors, outcome.errors
        assert not (tmp_path / "run").exists()
    outcome = invoke("synth.train", *data, "--semantics", "onehot", "--trainable", "true")
    assert outcome.status == 1 and "error: semantics onehot have no class vectors to train" in outcome.errors
