"""Programs run in the process that asks for them: the same lines of code without the time of a start."""

import contextlib
import io
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """How a program ended: its exit status, and what it said on standard output and standard error."""

    status: int
    output: str
    errors: str


def run_program_here(program: str, options: Sequence[object]) -> Outcome:
    """`python -m program options…` in this process: the same lines of code without the time of a start."""
    output, errors, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [program, *map(str, options)]
    status = 0
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = before
    return Outcome(status, output.getvalue(), errors.getvalue())
