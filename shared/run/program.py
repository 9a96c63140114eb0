"""What every `python -m package.program` does around its own work."""

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
from shared.run.lost_workers import lost_worker, lost_workers_told_once
from shared.run.stopping import STOPPED, Stopped, interruptible

Config = TypeVar("Config")


def run_program(run: Callable[[Config], None], config_class: type[Config], program: str, **parsing: Any) -> None:
    """Parse the command line into `config_class` and call `run`; see `shared.config.parse_config` for `parsing`."""
    with one_line_errors():
        run(parse_config(config_class, program=program, **parsing))
        leave_processes()


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
    reason = write_failure(error) if isinstance(error, OSError) else None
    return None if reason is None else f"cannot write {getattr(error, 'filename', None) or 'a file'}: {reason}"
