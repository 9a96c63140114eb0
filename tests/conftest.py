"""Options and limits of the whole suite, and programs run as a user runs them."""

import gc
import os
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import settings

from tests.launcher import Launcher
from tests.programs import Outcome, invoke_program, quicken_programs

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


NOT_QUICK = "takes seconds; make test runs it"
LEFT_OUT = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run tests that take many seconds (make long)")
    parser.addoption("--minutes", action="store_true", help="also run tests that take minutes")
    parser.addoption("--quick", action="store_true", help="leave out other processes, whole programs and what is marked slow (make check)")


def pytest_configure(config: pytest.Config) -> None:
    """Of several processes that share the tests (`-n`), each takes its share of the cores, and so do the programs that it starts."""
    quicken_programs()
    if hasattr(config, "workerinput"):
        threads = max(1, (os.cpu_count() or 1) // config.workerinput["workercount"])
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "long" in item.keywords and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes many seconds; make long runs it"))
        if "minutes" in item.keywords and not config.getoption("--minutes"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --minutes"))
        if "slow" in item.keywords and config.getoption("--quick"):
            item.add_marker(pytest.mark.skip(reason=NOT_QUICK))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_collection_finish() -> None:
    """What the collection left stays, so that the garbage collector need not go through it at every test."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs write under `runs/` of the working directory: every test has its own."""
    monkeypatch.chdir(tmp_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """With --quick a test is left out at the moment at which it, or its fixture, starts another process or a whole program, so that no
    list of them grows old."""
    if not item.config.getoption("--quick"):
        return (yield)

    def leave_out(*arguments: Any, **options: Any) -> NoReturn:
        item.stash[LEFT_OUT] = True
        pytest.skip(NOT_QUICK)

    def start(process: subprocess.Popen[Any], command: Any, *others: Any, **options: Any) -> None:
        if command[0] != "git":  # every run asks it for its revision
            leave_out()
        popen(process, command, *others, **options)

    popen = subprocess.Popen.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", start)
        for name in ("multiprocessing.process.BaseProcess.start", "os.fork", "runpy.run_module"):
            patch.setattr(name, leave_out)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test is left out too where another thread, or a handler of errors, took the request to skip it."""
    report = yield
    if report.failed and item.stash.get(LEFT_OUT, False):
        report.outcome, report.longrepr = "skipped", (*item.location[:2], NOT_QUICK)
    return report


@pytest.fixture(scope="session")
def invoke() -> Callable[..., Outcome]:
    """`python -m program arguments…` in this process: the same code path without the time to import torch."""
    return invoke_program


@pytest.fixture(scope="session")
def only_launcher(request: pytest.FixtureRequest) -> Iterator[Launcher]:
    if request.config.getoption("--quick"):
        pytest.skip(NOT_QUICK)
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture
def launcher(only_launcher: Launcher) -> Iterator[Launcher]:
    """Starts programs in processes of their own, to be signalled and killed; none outlives the test."""
    yield only_launcher
    only_launcher.kill_all()
