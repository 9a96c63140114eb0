"""Options and limits of the whole suite, and programs run as a user runs them."""

import contextlib
import io
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.launcher import Launcher

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "long" in item.keywords and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --long"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs write under `runs/` of the working directory: every test has its own."""
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of a program."""

    status: int
    output: str
    errors: str


def _invoke(program: str, *arguments: object) -> Outcome:
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
    return Outcome(status, output.getvalue(), errors.getvalue())


@pytest.fixture(scope="session")
def invoke() -> Callable[..., Outcome]:
    """`python -m program arguments…` in this process: the same code path without the time to import torch."""
    return _invoke


@pytest.fixture(scope="session")
def only_launcher() -> Iterator[Launcher]:
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture
def launcher(only_launcher: Launcher) -> Iterator[Launcher]:
    """Starts programs in processes of their own, to be signalled and killed; none outlives the test."""
    yield only_launcher
    only_launcher.kill_all()
