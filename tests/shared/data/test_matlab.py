"""MATLAB files: what scipy writes and reads comes out the same here, and a damaged file is one line, never the end of the process."""

import random
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from shared.data.matlab import read_matrix
from shared.errors import InputError
from tests.spoiling import spoil_bytes

KINDS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")


def write(path: Path, values: np.ndarray, *, compressed: bool) -> Path:
    others = {"captions": np.array(["a road", "a sky"], object), "regions": np.arange(12.0).reshape(3, 4), "x": {"y": 1}, "S2": values}
    savemat(path, others | {"S": values}, do_compression=compressed)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (1, 2), (300, 400), (0, 3), (2, 3, 4)])
def test_matrices_are_those_of_scipy(kind: str, shape: tuple[int, ...], compressed: bool, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape).astype(kind)
    path = write(tmp_path / "a.mat", values, compressed=compressed)
    found = read_matrix(path, "S", max_values=10**6)
    assert np.array_equal(found, values) and found.dtype == values.dtype and np.array_equal(found, loadmat(path)["S"])


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_there_and_what_is_not(compressed: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mat", np.ones((20, 30), np.uint8), compressed=compressed)
    with pytest.raises(KeyError):
        read_matrix(path, "T", max_values=600)
    with pytest.raises(InputError, match=r"does not hold as many values, or more than 599|cut short"):
        read_matrix(path, "S", max_values=599)
    for name in ("captions", "x"):
        with pytest.raises(InputError, match=r"the variable holds no matrix of (real )?numbers"):
            read_matrix(path, name, max_values=600)


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))
    with pytest.raises(InputError, match=r"it is no MATLAB file of version 5 to 7 \(in MATLAB: save -v7\); repair or replace it"):
        read_matrix(tmp_path / "a.mat", "S", max_values=9)
    with pytest.raises(InputError, match=r"cannot read the MATLAB file .*gone\.mat: No such file"):
        read_matrix(tmp_path / "gone.mat", "S", max_values=9)


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_files_are_one_line(compressed: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mat", np.arange(600, dtype=np.uint8).reshape(20, 30), compressed=compressed)
    content, refused = path.read_bytes(), 0
    for number in range(300):
        path.write_bytes(spoil_bytes(content, random.Random(number)))
        try:
            assert read_matrix(path, "S", max_values=600).size <= 600
        except (InputError, KeyError) as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50
