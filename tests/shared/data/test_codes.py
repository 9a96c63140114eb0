"""Codes from borders: counts by hand, the same code for the same neighbours, and the command that writes the table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shared.class_tables import read_class_table
from shared.data.codes import border_codes, count_borders
from shared.data.spec import DatasetSpec, Sample, SegmentationDataset
from shared.errors import InputError
from tests.small import require_one_line, scenes


class OneMap(SegmentationDataset):
    spec, split = DatasetSpec("one", tuple("abcd"), np.zeros((4, 3), np.uint8)), "train"

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        labels = torch.tensor([[0, 0, 1], [0, -1, 1], [2, 2, 1]])
        return Sample(torch.zeros(3, 3, 3, dtype=torch.uint8), labels, None, str(index))


def test_borders_counted_by_hand() -> None:
    expected = np.zeros((4, 4), np.int64)
    expected[0, 1] = expected[0, 2] = expected[1, 2] = 1
    assert np.array_equal(count_borders(OneMap()), 2 * (expected + expected.T))


def test_classes_with_the_same_neighbours_have_the_same_code() -> None:
    borders = np.zeros((7, 7), np.int64)
    for a, b in ((0, 2), (1, 2), (0, 3), (1, 3), (4, 5), (2, 4)):
        borders[a, b] = borders[b, a] = 10
    codes = border_codes(borders, 4)
    assert codes.shape == (7, 4) and codes.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-6)
    assert codes[0] @ codes[4] < 0.9
    assert np.array_equal(border_codes(borders, 4)[6], codes[6])  # without neighbours


@pytest.mark.parametrize("width", [0, 8])
def test_other_widths_are_refused(width: int) -> None:
    with pytest.raises(InputError, match=f"the width of codes is {width}; with 7 classes it must be 1 to 7"):
        border_codes(np.ones((7, 7), np.int64), width)


def test_the_command_writes_a_class_table(invoke: Callable[..., Any], tmp_path: Path) -> None:
    data = scenes(classes=7, train=3, val=2)
    outcome = invoke("shared.data", "codes", *data, "--width", 5, "-o", tmp_path / "codes.npz")
    assert outcome.status == 0 and "codes of width 5 for 7 classes, from 3 train label maps" in outcome.output, outcome
    table = read_class_table(tmp_path / "codes.npz")
    assert table.names is not None and len(table.names) == 7 and table.vectors.shape == (7, 5)
    require_one_line(invoke("shared.data", "codes", *data, "-o", tmp_path / "codes.csv"), "must end in .npz")
