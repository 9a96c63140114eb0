"""Configuration: commented dataclasses in, typed and checked settings out.

Every program declares one dataclass. Its fields, with the sentence under each, are the command line (`--section.key value`),
the YAML file (`--config FILE`) and the help text. jsonargparse does the parsing; this file spells switches out before it, and gives
its errors one line.
"""

import argparse
import copy
import dataclasses
import sys
import typing
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from docstring_parser import parse_from_object
from jsonargparse import ArgumentParser, set_parsing_settings

from shared.errors import InputError, nearest

Config = TypeVar("Config")

CONFIGS = Path(__file__).parent / "configs"
"""The settings files that are installed with the project."""

RENAMED = (
    ("model.weights_path", "model.weights"),
    ("inception_weights", "weights"),
    ("encoder", "features"),
    ("encoder", "style_encoder"),
    ("counts", "statistics"),
    ("output", "json"),
    ("save_statistics", "save_real"),
    ("statistics_only", "moments_only"),
)
"""Options that had another name, and their name today. An entry concerns the programs that know the new name and not the old one."""
SWITCHES = (
    "Of an option that is true or false, the name alone means true: --dry-run, --dry-run true and --dry-run=true are the same; so are "
    "--input.no-flip and --input.flip false. In names - and _ are the same."
)


@dataclass
class TrainConfig:
    """How long and how to train; the sections of both halves extend it."""

    steps: int = 1000
    """Optimizer updates in all."""
    batch_size: int = 8
    """Images per pass and process."""
    accumulation: int = 1
    """Passes whose gradients are summed up for one update, which is that of their images together, batch statistics aside."""
    seed: int = 0
    """Seed of the initial weights, the data order, augmentation and dropout."""
    save_every: int = 100
    """Steps between checkpoints."""
    log_every: int = 10
    """Steps between lines in metrics.jsonl and TensorBoard."""
    stop_after: int | None = None
    """Save and leave after this step, with the schedule of the full run; the same command continues. Null: run to the end."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA when there is a device."""
    threads: int | None = None
    """CPU threads of this process, besides data.num_workers. Null: one per core. Small networks on few cores are faster with 1."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the networks; losses and distances stay in float32."""
    tf32: bool = True
    """On GPUs with tensor cores, make the networks' float32 products, of matrices and in convolutions, from factors of ten bits."""
    deterministic: bool = False
    """On a GPU, give the same weights bit for bit every time, which a CPU does anyway; slower. Operators without such a form warn."""
    not_finite: Literal["stop", "skip"] = "stop"
    """What an update does whose loss or gradient is not finite: stop before the weights move, or leave this update out."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise InputError(f"train.{name} is {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise InputError(f"train.seed is {self.seed}; it must be 0 or more")


def parse_config(
    config_class: type[Config],
    argv: Sequence[str] | None = None,
    *,
    program: str,
    positional: dict[str, str | None] | None = None,
    short: dict[str, str] | None = None,
    inherit: Callable[[argparse.Namespace], dict[str, Any]] | None = None,
) -> Config:
    """Parse the command line of `program` into `config_class`.

    Args:
        positional: fields given by position, with their argparse `nargs`.
        short: one-letter option of a field, such as {"output": "-o"}.
        inherit: gives defaults (dotted names) that depend on the values parsed first, such as the settings of a run.

    Raises:
        InputError: unknown key (the known ones are listed), or a value of the wrong type.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = _build_parser(config_class, program, positional or {}, short or {})
    arguments = _spell_out(list(sys.argv[1:] if argv is None else argv), config_class)
    try:
        values = parser.parse_args(arguments)
        if inherit is not None:
            parser.set_defaults(inherit(values))
            values = parser.parse_args(arguments)
        _fill_empty_sections(values, parser.get_defaults(), config_class)
        settings = parser.instantiate(values)
    except argparse.ArgumentError as error:
        raise InputError(_explain(str(error), config_class, positional or {})) from error
    except UnicodeDecodeError as error:
        raise InputError(f"a file of settings is not UTF-8 text ({error}); check what --config names") from error
    return config_class(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(config_class)})  # type: ignore[arg-type]


def _fill_empty_sections(values: Any, defaults: Any, config_class: type) -> None:
    """A section of a settings file with nothing in it, as where every line is commented out, has its defaults; other than names and values
    are refused."""
    sections = {key[:end] for key, _ in _settings(config_class) for end, sign in enumerate(key) if sign == "."}
    for section in sorted(sections):
        found = values.get(section)
        if found is None:
            values[section] = defaults[section]
        elif not isinstance(found, argparse.Namespace):
            raise InputError(f"the section {section} of the settings is {found!r}; it must hold names of settings and their values")


def _spell_out(arguments: list[str], config_class: type) -> list[str]:
    """The command line as the parser reads it: `_` for the `-` in names of options, and every switch with its value.

    An option that had another name goes by it still, and the new one is told in a line.
    """
    hints = dict(_settings(config_class))
    known = {*hints, *(key[:end] for key in hints for end, sign in enumerate(key) if sign == "."), "config", "print_config"}
    waiting, spelled = deque(arguments), []
    while waiting:
        argument = waiting.popleft()
        option, equals, value = argument.partition("=")
        name = "output" if option == "-o" else option[2:].replace("-", "_") if option.startswith("--") else ""
        if name not in known and (new := _new_name(name, known)) is not None:
            print(f"note: {option} is now --{new}", file=sys.stderr, flush=True)
            name = new
        if is_switch(hints.get(name)) and not equals:
            values = ("true", "false", "null") if type(None) in get_args(hints[name]) else ("true", "false")
            argument = f"--{name}={waiting.popleft() if waiting and waiting[0].lower() in values else 'true'}"
        elif name in known:
            argument = f"--{name}{equals}{find_config(value)}"
        elif is_switch(hints.get(_without_no(name))) and not equals:
            argument = f"--{_without_no(name)}=false"
        spelled.append(find_config(argument))
    return spelled


def find_config(name: str) -> str:
    """Path of a settings file such as configs/seg/demo.yaml: where there is none, that of the installed one. Other text as it is."""
    path = Path(name)
    if path.suffix != ".yaml" or path.parts[:1] != ("configs",) or path.exists():
        return name
    installed = CONFIGS.joinpath(*path.parts[1:])
    return str(installed) if installed.is_file() else name


def is_switch(hint: Any) -> bool:
    """Whether a field of this type is true, false or, perhaps, null."""
    return hint is bool or (get_origin(hint) in (Union, UnionType) and bool in get_args(hint))


def _without_no(name: str) -> str:
    """input.no_flip -> input.flip; other names as they are."""
    section, dot, last = name.rpartition(".")
    return f"{section}{dot}{last.removeprefix('no_')}"


def _new_name(name: str, known: Collection[str]) -> str | None:
    """What an option that is not known is called today, where it is known under another name."""
    return next((new for old, new in RENAMED if old == name and new in known), None)


def _build_parser(config_class: type, program: str, positional: dict[str, str | None], short: dict[str, str]) -> ArgumentParser:
    classes = [base for base in reversed(config_class.__mro__) if dataclasses.is_dataclass(base)]
    help_of = {entry.arg_name: entry.description or "" for base in classes for entry in parse_from_object(base).params}
    parser = ArgumentParser(
        prog=f"python -m {program}", exit_on_error=False, allow_abbrev=False, description=config_class.__doc__, epilog=SWITCHES
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below.")
    hints = typing.get_type_hints(config_class)
    for name, nargs in positional.items():
        several: dict[str, Any] = {"nargs": nargs} if nargs else {}
        parser.add_argument(name, type=str if nargs else hints[name], help=help_of[name], **several)
    defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
    for name, letter in short.items():
        default = defaults[name]
        extra: dict[str, Any] = {"required": True} if default is dataclasses.MISSING else {"default": default}
        parser.add_argument(letter, f"--{name}", type=hints[name], help=help_of[name], **extra)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser.add_class_arguments(config_class, None, skip={*positional, *short})
    switches = [key for key, hint in _settings(config_class) if is_switch(hint)]
    for action in parser._actions:
        if action.dest in switches:
            action.metavar = "[true|false]"
    return parser


def known_keys(config_class: type) -> list[str]:
    """Dotted names of every setting of `config_class`."""
    return [key for key, _ in _settings(config_class)]


def _settings(config_class: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and type of every setting of `config_class`, its sections entered."""
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        inner = hints[field.name]
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            yield from _settings(inner, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, inner


def _explain(message: str, config_class: type, positional: Collection[str]) -> str:
    """One line for a parser's error; unknown keys get the nearest and all known ones, or their name of today."""
    line = " ".join(message.split()).replace("<class '", "").replace("'>", "").replace("typing.", "")
    if line.startswith("Unexpected config:"):
        return f"a settings file holds {line.partition(': ')[2][:60]!r}; it must hold names of settings and their values"
    before, are_missing, names = line.partition("arguments are required: ")
    if are_missing:
        return before + are_missing + ", ".join(name if name in positional else f"--{name}" for name in names.split(", "))
    if not any(words in line for words in ("nrecognized", "does not accept", "is not accepted")):
        return line
    if "--" not in line and "'" not in line:  # a word that belongs to no option: the positional ones are already taken
        return f"{line}; files and folders come before the options"
    keys = known_keys(config_class)
    # from the command line, or `Group 'model' does not accept option 'x'` and `Option 'x' is not accepted` from a file
    wanted = line.split("--")[-1].split()[0] if "--" in line else ".".join(line.split("'")[1::2])
    if (new := _new_name(wanted, keys)) is not None:
        raise InputError(f"{wanted} is now {new}; change its name in the file")
    tails = {key.split(".")[-1]: key for key in keys}
    near = nearest(wanted, [*keys, *tails]) or nearest(wanted.split(".")[-1], tails)
    hint = f"; did you mean {tails.get(near, near)}?" if near else ";"
    return f"{line}{hint} Known keys: {', '.join(keys)}"


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values of a config dataclass, as YAML and JSON can hold them."""
    return _plain(dataclasses.asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def to_yaml(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        InputError: no such file, neither there nor installed, or it is not a YAML mapping.
    """
    path = Path(find_config(str(path)))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the settings file {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {type(content).__name__}; a mapping of settings was expected")
    return content


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"data": {"name": …}} -> {"data.name": …}"""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def with_new_names(config: dict[str, Any]) -> dict[str, Any]:
    """Settings that a run stored, some perhaps under the names that they had then, under those of today."""
    config = copy.deepcopy(config)
    for old, new in RENAMED:
        (before, last), (after, today) = (_place(config, name) for name in (old, new))
        if last in before:
            after[today] = before.pop(last)
    return config


def _place(config: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The section of a dotted name, empty where there is none, and the last part of the name."""
    *sections, last = name.split(".")
    for section in sections:
        inner = config.get(section)
        config = inner if isinstance(inner, dict) else {}
    return config, last


def require_same_settings(stored: dict[str, Any], given: dict[str, Any], *, free: set[str], where: str) -> None:
    """Refuse to continue a run with other settings than it began with.

    Args:
        stored, given: nested settings.
        free: dotted keys that may change, such as the number of workers; a section stands for all its keys.

    Raises:
        InputError: names the first settings that differ.
    """
    old, new = flatten(stored), flatten(given)
    fixed = [key for key in old | new if not any(key == name or key.startswith(f"{name}.") for name in free)]
    changed = [key for key in fixed if old.get(key) != new.get(key)]
    if changed:
        shown = ", ".join(f"{key} was {old.get(key)}, now {new.get(key)}" for key in changed[:3])
        raise InputError(f"{where} holds a run with other settings ({shown}); give the same settings to continue it, or another --run_dir")
