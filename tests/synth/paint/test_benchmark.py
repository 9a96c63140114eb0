"""The benchmark of the page's server: what it counts, and that it runs."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synth.config import GeneratorConfig
from synth.paint.painter import Painter
from synth.paint.speed import made_run, strokes, unchanged_sizes
from tests.small import refusal

Invoke = Callable[..., Any]


def test_sizes_that_a_stroke_leaves_alone(tmp_path: Path) -> None:
    """Of 64×64 down to 2×2 pixels: a dot between the pixels that smaller sizes keep is seen at full size alone."""
    run = made_run(tmp_path / "run", (64, 64), GeneratorConfig(width=2, hidden=4), 4)
    painter = Painter(str(run), torch.device("cpu"), tmp_path)
    before = np.zeros((64, 64), np.int64)
    dot = before.copy()
    dot[3, 3] = 1
    unchanged, share, sizes = unchanged_sizes(painter, [before, dot])
    areas = [4096, 1024, 256, 64, 16, 4]
    assert (unchanged, sizes) == (5, 6) and share == pytest.approx(sum(areas[1:]) / sum(areas))
    assert unchanged_sizes(painter, [before, before])[0] == 6


def test_strokes_change_the_map_one_after_the_other() -> None:
    maps = strokes(np.zeros((64, 128), np.int64), 5, 19)
    assert len(maps) == 5 and all(not np.array_equal(one, other) for one, other in pairwise(maps))
    assert not maps[0].all() and max(labels.max() for labels in maps) < 19


def test_it_measures_and_writes(invoke: Invoke, tmp_path: Path) -> None:
    given = ["synth.paint.benchmark", "--sizes", "[demo]", "--repeats", 2, "--json", tmp_path / "f.json"]
    assert "would measure 2 strokes at demo size, 64x128 pixels" in invoke(*given, "--dry-run").output
    assert not (tmp_path / "f.json").exists()
    outcome = invoke(*given)
    assert outcome.status == 0, outcome.errors
    found = json.loads((tmp_path / "f.json").read_text())["results"]["demo"]
    assert found["ratio"] > 0.3 and {*found["ms"]} == {"server", "forward", "forward of prepared ids"}
    assert f"server / forward {found['ratio']:.2f}" in outcome.output
    assert "repeats is 0" in refusal(invoke("synth.paint.benchmark", "--repeats", 0))
