"""What every `python -m package.program` does around its own work."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from shared.config import parse_config
from shared.distributed import is_first, leave_processes
from shared.errors import InputError
from shared.files.atomic import write_failure
from shared.run.faults import explain_fault
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
