"""No JSON file holds NaN or an infinite number, which JSON has not: one function writes them all."""

import ast
import json
import math
from pathlib import Path

import pytest
import torch

from seg.inference import write_evaluation
from shared.data.spec import DatasetSpec
from shared.files.json_file import to_json, write_json
from shared.files.tensor_file import read_tensors, write_tensors
from shared.metrics import ConfusionMatrix
from shared.run.directory import RunDirectory
from shared.visualise import voc_palette

ROOT = Path(__file__).parents[3]
SPOKEN = {"shared/benchmark/isolation.py", "synth/comparison/arms.py"}
"""What these write as JSON goes to another process of ours, and into no file."""


def strict(text: str) -> object:
    """JSON as other readers take it."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_null_stands_for_what_json_has_not(bad: float, tmp_path: Path) -> None:
    content = {"a": bad, "b": [1, bad, (bad, "x")], "c": {"d": {"e": bad}}, "f": 0.5, "g": None, "h": True}
    expected = {"a": None, "b": [1, None, [None, "x"]], "c": {"d": {"e": None}}, "f": 0.5, "g": None, "h": True}
    write_json(tmp_path / "a.json", content)
    assert strict((tmp_path / "a.json").read_text()) == strict(to_json(content)) == expected


def test_what_is_written_by_the_halves(tmp_path: Path) -> None:
    """The evaluation of a split without labels, a line of metrics, and what travels with tensors."""
    spec = DatasetSpec("town", ("road", "sky"), voc_palette(2))
    write_evaluation(tmp_path / "evaluation.json", ConfusionMatrix(2), spec, {"miou": math.nan})
    figures = strict((tmp_path / "evaluation.json").read_text())
    assert isinstance(figures, dict) and figures["miou"] is None and figures["iou"] == {"road": None, "sky": None}
    run = RunDirectory(tmp_path / "run")
    run.start({"train": {"steps": 1}})
    run.log_metrics(1, {"loss": math.inf, "ok": 1.0})
    run.forget_after(1, 1)
    run.close()
    for file in ("metrics.jsonl", "environment.json"):
        strict((tmp_path / "run" / file).read_text())
    write_tensors(tmp_path / "t.safetensors", {"a": torch.zeros(1)}, "things/1", {"best": math.nan})
    assert read_tensors(tmp_path / "t.safetensors", "things/1")[1] == {"best": None}


def test_nobody_else_writes_json() -> None:
    found = set()
    for package in ("seg", "synth", "shared"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dump", "json.dumps"):
                    found.add(path.relative_to(ROOT).as_posix())
    assert found == SPOKEN | {"shared/files/json_file.py"}
