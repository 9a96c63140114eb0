"""The code of docs/python.md, run exactly as it stands there, in a folder with the runs and pictures that it names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.small import SEGMENTER, scenes, synthesis

ROOT = Path(__file__).parent.parent
Invoke = Callable[..., Any]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def picture(path: Path, seed: int, size: tuple[int, int] = (32, 64)) -> None:
    path.parent.mkdir(exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8)
    Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)).save(path)


@pytest.mark.long
def test_the_blocks_run_as_they_stand(invoke: Invoke, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = scenes(classes=7, train=4, val=2)
    for program, *options in (
        ["seg.train", *data, *SEGMENTER, "--train.steps", 2, "--run_dir", "runs/street"],
        ["synth.train", *data, *synthesis(), "--semantics", "onehot", "--train.steps", 1, "--run_dir", "runs/generator"],
    ):
        outcome = invoke(program, *options)
        assert outcome.status == 0, outcome.errors
    picture(tmp_path / "street.png", 0)
    for folder in ("real", "generated"):
        for number in range(4):
            picture(tmp_path / folder / f"{number}.png", number + 10 * (folder == "real"))
    Image.fromarray(np.random.default_rng(1).integers(0, 7, (32, 64), np.uint8)).save("layout.png")
    capsys.readouterr()

    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    blocks = BLOCK.findall(page)
    assert len(blocks) >= 8 and len(blocks) == page.count("```python")
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)

    printed = capsys.readouterr().out
    assert "FD-lite0" in printed and "road" in printed
    assert np.array_equal(np.array(Image.open("labels.png")), names["result"].ids)
    assert names["image"].shape == (32, 64, 3) == np.array(Image.open("again.png")).shape
    assert names["ids"].shape == (2, 64, 96) and names["mirrored"].ids.shape == (32, 64)
    outcome = invoke("seg.predict", "runs/street", "street.png", "-o", "predicted")
    assert outcome.status == 0 and np.array_equal(np.array(Image.open("predicted/labels/street.png")), names["result"].ids)


def test_the_examples_that_the_page_names_are_all_there_are() -> None:
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    assert {*re.findall(r"`(examples/\w+\.py)`", page)} == {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
