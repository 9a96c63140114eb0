"""Every command in the documentation exists, with these options and values."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
COMMAND = re.compile(r"^(?:    |\s*\| `|# |\t(?:\$\(PY\) ))(?:python )?(-m (?:seg|synth|shared)\.[^`#\n]*)", re.MULTILINE)
DOCUMENTS = [ROOT / "README.md", ROOT / "Makefile", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "configs").rglob("*.yaml"))]


def documented_commands() -> list[str]:
    found = set()
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        found |= {match.split("   ")[0].strip() for match in COMMAND.findall(text)}
    return sorted(found)


def test_documents_hold_commands() -> None:
    assert len(documented_commands()) >= 15


@pytest.mark.parametrize("command", documented_commands())
def test_documented_command_parses(command: str, invoke: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--print_config` makes the parser check every option and value, print the settings and stop."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    program, *arguments = shlex.split(command.removeprefix("-m "))
    arguments = [argument.replace("$(DEMO)", "runs/demo") for argument in arguments]
    outcome = invoke(program, *arguments, "--print_config")
    assert outcome.status == 0, outcome.errors


def test_tests_that_documents_name_exist() -> None:
    found = {match for path in DOCUMENTS for match in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", path.read_text(encoding="utf-8"))}
    assert len(found) > 15
    for file, test in found:
        assert (ROOT / file).is_file(), file
        assert not test or f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_the_tests_that_documents_name_exist() -> None:
    """`tests/file.py::name`, and `::name` of the file named before it."""
    named, path = 0, None
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    for file, name in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", text):
        path = ROOT / file if file else path
        assert path is not None and re.search(rf"^def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE), f"{file}::{name}"
        named += 1
    assert named >= 20
