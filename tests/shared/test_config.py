"""The command line and the YAML file say the same things, and mistakes are told in one line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from shared.config import TrainConfig, flatten, known_keys, parse_config, require_same_settings, to_dict, to_yaml
from shared.errors import InputError


@dataclass
class Section:
    """A section."""

    name: Literal["a", "b"] = "a"
    """Which one."""
    size: tuple[int, int] = (2, 3)
    """Height and width in pixels."""


@dataclass
class Settings:
    """A program."""

    section: Section = field(default_factory=Section)
    """Its section."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Its training."""
    rate: float = 0.5
    """A rate."""
    output: str = "out"
    """A folder."""
    dry_run: bool = False
    """Stop early."""


def parse(*argv: str) -> Settings:
    return parse_config(Settings, argv, program="test.program", short={"output": "-o"})


def test_no_argument_gives_the_defaults() -> None:
    assert parse() == Settings()


def test_command_line_overrides_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("rate: 2e-4\nsection: {name: b, size: [5, 6]}\n")
    settings = parse("--config", "c.yaml", "--section.size", "[7, 8]", "-o", "here")
    assert settings == Settings(section=Section("b", (7, 8)), rate=2e-4, output="here")


def test_written_settings_read_back_equal(tmp_path: Path) -> None:
    settings = Settings(section=Section("b", (9, 9)), train=TrainConfig(steps=7), rate=0.1)
    (tmp_path / "c.yaml").write_text(to_yaml(to_dict(settings)))
    assert parse("--config", "c.yaml") == settings


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--section.nam", "a"], "did you mean section.name"),
        (["--rat", "1"], "Known keys: section.name, section.size"),
        (["--section.name", "c"], "Literal"),
        (["--rate", "fast"], "Got value: fast"),
        (["--train.steps", "0"], "train.steps is 0; it must be at least 1"),
        (["--config", "absent.yaml"], "does not exist"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        parse(*arguments)
    assert "\n" not in str(caught.value)


def test_unknown_key_in_a_file_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("section: {nam: b}\n")
    with pytest.raises(InputError, match=r"'nam'.*did you mean section\.name.*Known keys: section\.name"):
        parse("--config", "c.yaml")


def test_help_has_sentence_type_and_default_of_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{key}" in text for key in known_keys(Settings))
    assert "Height and width in pixels. (type: tuple[int, int], default:" in " ".join(text.split())


def test_changed_settings_are_named() -> None:
    old, new = to_dict(Settings()), to_dict(Settings(rate=0.25))
    require_same_settings(old, new, free={"rate"}, where="runs/x")
    with pytest.raises(InputError, match=r"runs/x holds a run with other settings \(rate was 0\.5, now 0\.25"):
        require_same_settings(old, new, free=set(), where="runs/x")


def test_flatten_names_every_setting() -> None:
    assert list(flatten(to_dict(Settings()))) == known_keys(Settings)


@pytest.mark.parametrize(
    "form", [["--dry-run"], ["--dry_run"], ["--dry_run", "true"], ["--dry-run", "true"], ["--dry-run", "--rate", "0.5"]]
)
def test_dry_run_needs_no_value(form: list[str]) -> None:
    assert parse(*form).dry_run
