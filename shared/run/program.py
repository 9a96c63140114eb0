"""What every `python -m package.program` does around its own work."""

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from shared.config import parse_config
from shared.distributed import is_first, leave_processes
from shared.errors import InputError, choose
from shared.files.atomic import write_failure
from shared.run.faults import explain_fault
from shared.run.lost_workers import lost_worker, lost_workers_told_once
from shared.run.stopping import STOPPED, Stopped, interruptible

Config = TypeVar("Config")


def run_program(run: Callable[[Config], None], config_class: type[Config], program: str, **parsing: Any) -> None:
    """Parse the command line into `config_class` and call `run`; see `shared.config.parse_config` for `parsing`."""
    print_anything()
    with one_line_errors():
        run(parse_config(config_class, program=program, **parsing))
        leave_processes()


def print_anything() -> None:
    """Characters that the terminal's encoding lacks are printed as escapes (\\u221e), so that no output can end a program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Command(NamedTuple):
    """One of several commands of a program.

    Attributes:
        run: does it.
        config_class: its settings; the first line of the docstring is what the program's help says of it.
        short: as in `shared.config.parse_config`.
    """

    run: Callable[[Any], None]
    config_class: type
    short: dict[str, str] | None = None


def run_commands(commands: Mapping[str, Command], program: str, description: str) -> None:
    """As `run_program`, for the command that the command line names; every one has settings and a help of its own."""
    print_anything()
    with one_line_errors():
        arguments = sys.argv[1:]
        place = _place_of_command(arguments, commands)
        if place is None and {"-h", "--help"} & {*arguments}:
            print(_overview(commands, program, description))
            return
        if place is None and (not arguments or arguments[0].startswith("-")):
            raise InputError(f"no command was given; say python -m {program} and one of {', '.join(commands)}")
        name = choose("command", arguments.pop(place or 0), commands)
        command = commands[name]
        command.run(parse_config(command.config_class, arguments, program=f"{program} {name}", short=command.short))
        leave_processes()


def _place_of_command(arguments: Sequence[str], commands: Mapping[str, Command]) -> int | None:
    """Where the command is named: by the first word of that name that is not the value of an option."""
    for place, (before, word) in enumerate(zip(["", *arguments], arguments)):
        if word in commands and (not before.startswith("-") or "=" in before):
            return place
    return None


def _overview(commands: Mapping[str, Command], program: str, description: str) -> str:
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {str(command.config_class.__doc__).splitlines()[0]}" for name, command in commands.items()]
    usage = f"usage: python -m {program} COMMAND [options]"
    return "\n".join([usage, "", description, "", *lines, "", f"python -m {program} COMMAND --help lists the options of a command."])


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake into one line on standard error and exit status 1, and a request to stop into status 3.

    Our own mistakes keep their traceback, but while a process that reads data is dead: any error may be its consequence then.
    """
    with lost_workers_told_once():
        try:
            with interruptible():
                yield
        except Stopped as stop:
            if is_first():
                print(f"stopped: {stop}", file=sys.stderr, flush=True)
            sys.exit(STOPPED)
        except KeyboardInterrupt:
            print("stopped: the same command, for a training with its --run_dir, goes on from what is saved", file=sys.stderr, flush=True)
            sys.exit(STOPPED)
        except Exception as error:
            told = _one_line(error)
            if told is None:
                raise
            print(f"error: {told}", file=sys.stderr, flush=True)
            sys.exit(1)


def _one_line(error: Exception) -> str | None:
    """What is told of an error that is not our own mistake."""
    if (lost := lost_worker()) is not None:
        return lost
    if isinstance(error, BrokenPipeError):
        os._exit(1)
    if isinstance(error, InputError):
        return " ".join(str(error).split())
    if isinstance(error, (RuntimeError, MemoryError)):
        return explain_fault(error)
    if isinstance(error, UnicodeEncodeError) and _is_no_text(error.object):  # a library that takes text alone
        return f"{error.object!r} is no UTF-8 text, which names must be here; rename the file or folder"
    reason = write_failure(error) if isinstance(error, OSError) else None
    return None if reason is None else f"cannot write {getattr(error, 'filename', None) or 'a file'}: {reason}"


def _is_no_text(name: str) -> bool:
    """Whether a name holds bytes that Python could not decode."""
    return any("\udc80" <= letter <= "\udcff" for letter in name)
