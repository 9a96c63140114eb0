"""A settings file that is not there is looked for among the installed ones, by the path that the documentation gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.config import CONFIGS, find_config, read_yaml

ROOT = Path(__file__).parent.parent.parent
Invoke = Callable[..., Any]


def test_every_settings_file_is_installed() -> None:
    names = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.yaml"))
    assert len(names) > 10
    for name in names:
        found = Path(find_config(str(name)))
        assert found == CONFIGS / name.relative_to("configs") and found.read_bytes() == (ROOT / name).read_bytes()


@pytest.mark.parametrize("spelling", [["--config", "configs/seg/demo.yaml"], ["--config=configs/seg/demo.yaml"]])
def test_a_program_finds_it_from_anywhere(spelling: list[str], invoke: Invoke) -> None:
    found, wanted = (invoke("seg.train", *words, "--print_config") for words in (spelling, ["--config", ROOT / "configs/seg/demo.yaml"]))
    assert found.status == 0 and found.output == wanted.output


def test_settings_that_settings_name_are_found_too() -> None:
    assert "train" in read_yaml(Path("configs/seg/camvid_cpu.yaml"))


def test_a_section_is_found_too(invoke: Invoke) -> None:
    outcome = invoke("seg.train", "--data", "configs/data/own_16bit.yaml", "--print_config")
    assert outcome.status == 0 and "name: folder" in outcome.output


def test_a_file_that_is_there_comes_first(tmp_path: Path, invoke: Invoke) -> None:
    own = tmp_path / "configs/seg/demo.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("train: {steps: 123}\n")
    assert find_config("configs/seg/demo.yaml") == "configs/seg/demo.yaml"
    assert "steps: 123" in invoke("seg.train", "--config", "configs/seg/demo.yaml", "--print_config").output


@pytest.mark.parametrize("text", ["configs/seg/none.yaml", "seg/demo.yaml", "configs", "configs/seg/demo.yml", "a.png", ""])
def test_other_text_stays(text: str) -> None:
    assert find_config(text) == text


def test_a_file_that_is_nowhere_is_refused_in_one_line(invoke: Invoke) -> None:
    outcome = invoke("seg.train", "--config", "configs/seg/none.yaml")
    assert outcome.status == 1 and outcome.errors.startswith("error: ") and outcome.errors.count("\n") == 1
    assert "configs/seg/none.yaml" in outcome.errors
