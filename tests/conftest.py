"""Options and limits of the whole suite, and programs run as a user runs them."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import settings

from tests.launcher import Launcher
from tests.programs import Outcome, invoke_program

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run tests that take minutes")
    parser.addoption("--one-process", action="store_true", help="leave out tests that start a second process (make check)")


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


@pytest.fixture(autouse=True)
def one_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --one-process a test is left out at the moment at which it starts another one, so that no list of them grows old."""
    if not request.config.getoption("--one-process"):
        return

    def leave_out(*arguments: Any, **options: Any) -> NoReturn:
        pytest.skip("starts a second process; make test runs it")

    def start(process: subprocess.Popen[Any], command: Any, *others: Any, **options: Any) -> None:
        if command[0] != "git":  # every run asks it for its revision
            leave_out()
        popen(process, command, *others, **options)

    popen = subprocess.Popen.__init__
    monkeypatch.setattr(subprocess.Popen, "__init__", start)
    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", leave_out)
    monkeypatch.setattr("os.fork", leave_out)


@pytest.fixture(scope="session")
def invoke() -> Callable[..., Outcome]:
    """`python -m program arguments…` in this process: the same code path without the time to import torch."""
    return invoke_program


@pytest.fixture(scope="session")
def only_launcher(request: pytest.FixtureRequest) -> Iterator[Launcher]:
    if request.config.getoption("--one-process"):
        pytest.skip("starts a second process; make test runs it")
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture
def launcher(only_launcher: Launcher) -> Iterator[Launcher]:
    """Starts programs in processes of their own, to be signalled and killed; none outlives the test."""
    yield only_launcher
    only_launcher.kill_all()
