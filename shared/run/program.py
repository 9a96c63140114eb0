"""What every `python -m package.program` does around its own work."""

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
from shared.run.stopping import STOPPED, Stopped, interruptible

Config = TypeVar("Config")


def run_program(run: Callable[[Config], None], config_class: type[Config], program: str, **parsing: Any) -> None:
    """Parse the command line into `config_class` and call `run`; see `shared.config.parse_config` for `parsing`."""
    with one_line_errors():
        run(parse_config(config_class, program=program, **parsing))
        leave_processes()


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

    Our own mistakes keep their traceback.
    """
    try:
        with interruptible():
            yield
    except InputError as error:
        sys.exit(_report(" ".join(str(error).split())))
    except BrokenPipeError:
        os._exit(1)
    except (RuntimeError, MemoryError) as error:
        explained = explain_fault(error)
        if explained is None:
            raise
        sys.exit(_report(explained))
    except OSError as error:
        reason = write_failure(error)
        if reason is None:
            raise
        sys.exit(_report(f"cannot write {error.filename or 'a file'}: {reason}"))
    except Stopped as stop:
        if is_first():
            print(f"stopped: {stop}", file=sys.stderr, flush=True)
        sys.exit(STOPPED)
    except KeyboardInterrupt:
        print("stopped: the same command, for a training with its --run_dir, goes on from what is saved", file=sys.stderr, flush=True)
        sys.exit(STOPPED)


def _report(message: str) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return 1
