"""The command line and the YAML file say the same things, and mistakes are told in one line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from shared.config import RENAMED, TrainConfig, flatten, known_keys, parse_config, require_same_settings, to_dict, to_yaml, with_new_names
from shared.errors import InputError, choose


@dataclass
class Section:
    """A section."""

    name: Literal["a", "b"] = "a"
    """Which one."""
    size: tuple[int, int] = (2, 3)
    """Height and width in pixels."""
    flip: bool = True
    """Mirror."""
    twice_real: bool | None = None
    """Null: it depends."""


@dataclass
class Model:
    """A network."""

    weights: str | None = None
    """Its weights."""


@dataclass
class Settings:
    """A program."""

    section: Section = field(default_factory=Section)
    """Its section."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Its training."""
    model: Model = field(default_factory=Model)
    """Its network."""
    rate: float = 0.5
    """A rate."""
    features: str = "inception"
    """A file."""
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


@dataclass
class Taking(Settings):
    """A program that is given a run."""

    run: str = field(kw_only=True)
    """A folder."""


@pytest.mark.parametrize("name", ["--dry-run", "--dry_run"])
@pytest.mark.parametrize("value", [[], ["true"], ["True"], "=true"])
def test_a_switch_needs_no_value_and_takes_no_folder(name: str, value: list[str] | str) -> None:
    form = [name + value] if isinstance(value, str) else [name, *value]
    for arguments in ([*form, "RUN"], ["RUN", *form], [*form, "RUN", "--rate", "2"]):
        settings = parse_config(Taking, arguments, program="test.program", positional={"run": None}, short={"output": "-o"})
        assert (settings.dry_run, settings.run) == (True, "RUN")


@pytest.mark.parametrize(
    ("arguments", "flip", "twice"),
    [
        (["--section.flip"], True, None),
        (["--section.flip", "false", "--section.twice-real"], False, True),
        (["--section.flip=false", "--section.twice_real", "null"], False, None),
        (["--section.no-flip", "--section.no_twice_real"], False, False),
        (["--section.flip", "--section.twice-real", "false"], True, False),
    ],
)
def test_switches_in_sections(arguments: list[str], flip: bool, twice: bool | None) -> None:
    section = parse(*arguments, "--train.batch-size", "3", "--section.size=[4, 5]").section
    assert (section.flip, section.twice_real, section.size) == (flip, twice, (4, 5))


def test_help_shows_the_form_of_switches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert all(f"--{name} [true|false]" in text for name in ("dry_run", "section.flip", "section.twice_real"))
    assert "the name alone means true" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model.weights_path", "a"], "note: --model.weights_path is now --model.weights"),
        (["--model.weights-path=a"], "note: --model.weights-path is now --model.weights"),
        (["--encoder", "a"], "note: --encoder is now --features"),
    ],
)
def test_an_old_name_serves_and_the_new_one_is_told(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = parse(*arguments)
    assert "a" in (settings.features, settings.model.weights)
    assert capsys.readouterr().err.splitlines() == [said]


@pytest.mark.parametrize(
    ("arguments", "file", "said"),
    [
        (["--config", "c.yaml"], "model: {weights_path: null}", "model.weights_path is now model.weights; change its name in the file"),
        (["--config", "c.yaml"], "encoder: a", "encoder is now features; change its name in the file"),
        (["--model", "c.yaml"], "weights_path: a", "model.weights_path is now model.weights; change its name in the file"),
    ],
)
def test_an_old_name_in_a_file_is_told_the_new_one(arguments: list[str], file: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(file)
    with pytest.raises(InputError) as caught:
        parse(*arguments)
    assert str(caught.value) == said


@pytest.mark.parametrize("file", ["model:\nfeatures: a", "model:\n  # weights: b\nfeatures: a", "{model: null, features: a}"])
def test_a_section_with_nothing_in_it_has_its_defaults(file: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(file)
    expected = parse("--features", "a")
    assert parse("--config", "c.yaml") == expected
    assert parse("--config", "c.yaml", "--model.weights", "b").model == parse("--model.weights", "b").model


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("model: 3", "the section model of the settings is 3; it must hold names of settings and their values"),
        ("model: []", "the section model of the settings is []; it must hold names of settings and their values"),
        ("# nothing", "a settings file holds '# nothing'; it must hold names of settings and their values"),
        ("- a", "a settings file holds '- a'; it must hold names of settings and their values"),
    ],
)
def test_what_is_no_settings_is_refused_in_one_line(file: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(file)
    with pytest.raises(InputError) as caught:
        parse("--config", "c.yaml")
    assert str(caught.value) == said


def test_a_name_is_old_only_where_the_new_one_is_known() -> None:
    assert parse("-o", "here").output == "here"  # though --output has become --json elsewhere
    with pytest.raises(InputError, match="unrecognized arguments: --counts"):
        parse("--counts", "a")


def test_stored_settings_get_their_names_of_today() -> None:
    stored = {
        "model": {"weights_path": "a.pth", "width": 3},
        "inception_weights": None,
        "variants": {"x": {"model.weights_path": 1}, "y": {}},
    }
    expected = {"model": {"weights": "a.pth", "width": 3}, "weights": None, "variants": {"x": {"model.weights_path": 1}, "y": {}}}
    assert with_new_names(stored) == expected
    assert with_new_names(expected) == expected
    assert with_new_names({"model": 7}) == {"model": 7}


def test_no_program_knows_an_old_and_its_new_name() -> None:
    """Or else the table would refuse what is right."""
    assert len(set(RENAMED)) == len(RENAMED) and not {new for _, new in RENAMED} & {old for old, _ in RENAMED}


def test_choose_suggests_the_nearest_and_lists_not_too_many() -> None:
    assert choose("norm", "batch", ("batch", "group")) == "batch"
    with pytest.raises(InputError) as caught:
        choose("norm", "grup", ("batch", "group"), other="a file", where="c.yaml")
    assert str(caught.value) == "c.yaml: unknown norm 'grup' (did you mean group?); choose one of batch, group, or a file"
    with pytest.raises(InputError, match=r"unknown class 'x'; choose one of 0, 1, .*, 19 and 980 more$"):
        choose("class", "x", map(str, range(1000)))
