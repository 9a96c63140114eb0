"""`compare_folders`: the numbers that `python -m shared.fid` writes, bit for bit."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.errors import InputError
from shared.fid import compare_folders

Invoke = Callable[..., Any]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    generator, place = np.random.default_rng(0), tmp_path_factory.mktemp("images")
    for name in ("real", "made"):
        (place / name).mkdir()
        for number in range(8):
            Image.fromarray(generator.integers(0, 256, (24, 32, 3), np.uint8)).save(place / name / f"{number}.png")
    return place / "real", place / "made"


@pytest.mark.slow
def test_the_numbers_are_those_of_the_program(folders: tuple[Path, Path], invoke: Invoke) -> None:
    outcome = invoke("shared.fid", *folders, "--features", "efficientnet_lite0", "--seed", 2, "--json", "figures.json")
    assert outcome.status == 0, outcome.errors
    comparison = compare_folders(*folders, features="efficientnet_lite0", seed=2)
    written = json.loads(Path("figures.json").read_text())
    assert json.loads(json.dumps(asdict(comparison))).items() <= written.items()
    assert comparison.title == "FD-lite0" and comparison.distance > 0 and comparison.count_real == 8
    assert outcome.output.splitlines()[1:] == comparison.lines()


@pytest.mark.slow
def test_real_statistics_are_kept_where_the_program_keeps_them(folders: tuple[Path, Path]) -> None:
    real, made = map(str, folders)
    first = compare_folders(real, made, features="efficientnet_lite0")
    kept = list(Path("runs/statistics").iterdir())
    assert len(kept) == 1 and compare_folders(kept[0], made, features="efficientnet_lite0", cache=None) == first
    moments = compare_folders(real, made, features="efficientnet_lite0", cache=None, moments_only=True)
    assert moments.kernel_distance is None and moments.distance == pytest.approx(first.distance, rel=1e-6)


def test_refusals(folders: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="nowhere is no folder"):
        compare_folders("nowhere", folders[1])
    with pytest.raises(InputError, match="unknown features 'resnet'"):
        compare_folders(*folders, features="resnet")
