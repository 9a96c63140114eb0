"""Programs run as a user runs them, in this process."""

import contextlib
import io
import runpy
import sys
from dataclasses import dataclass

from shared.run.stopping import STOPPED


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of a program."""

    status: int
    output: str
    errors: str


def invoke_program(program: str, *arguments: object) -> Outcome:
    """`python -m program arguments…` in this process: the same code path without the time to import torch."""
    output, errors, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [program, *map(str, arguments)]
    status = 0
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = argv
    if status == STOPPED:  # the request was for the tests
        raise KeyboardInterrupt
    return Outcome(status, output.getvalue(), errors.getvalue())
