"""`essnet PROGRAM …` beside `python -m PROGRAM …`: the same help, output and exit status, and a list that has every program."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from shared.console import main, overview, programs
from tests.test_import_direction import PROGRAMS, ROOT
from tests.test_start import STARTED_BY_OTHERS

Invoke = Callable[..., Any]


def essnet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """Exit status, output and errors of the command."""
    monkeypatch.setattr(sys, "argv", ["essnet", *arguments])
    status: object = 0
    try:
        main()
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status or 0, captured.out, captured.err


def test_it_lists_every_program_with_a_sentence() -> None:
    wanted = {name.removesuffix(".__main__") for name in PROGRAMS if not name.startswith(STARTED_BY_OTHERS)}
    assert programs().keys() == wanted
    for name, sentence in programs().items():
        assert sentence and "`python" not in sentence and f"  {name} " in overview()


def test_the_list_for_completion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, output, _ = essnet(monkeypatch, capsys, "--list")
    assert status == 0 and output.split() == list(programs())
    assert essnet(monkeypatch, capsys, "--help")[1] == overview() + "\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["seg.train", "--help"],
        ["shared.data", "--help"],
        ["synth.convert", "--help"],
        ["seg.evaluate", "nowhere"],
        ["seg.train", "--train.step", "3"],
        ["shared.data", "chek"],
    ],
    ids=" ".join,
)
def test_a_program_is_what_python_m_runs(
    arguments: list[str], invoke: Invoke, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = invoke(*arguments)
    assert essnet(monkeypatch, capsys, *arguments) == (outcome.status, outcome.output, outcome.errors)
    assert outcome.output or outcome.status == 1


def test_refusals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert essnet(monkeypatch, capsys) == (1, "", "error: no program was given; essnet --help lists them\n")
    status, output, errors = essnet(monkeypatch, capsys, "seg.trian")
    assert (status, output) == (1, "") and errors.startswith("error: unknown program 'seg.trian' (did you mean seg.train?); choose one of")
    assert errors.count("\n") == 1


def test_listing_loads_no_torch() -> None:
    ask = "import sys; from shared.console import main; sys.argv = ['essnet', '--list']; main(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split()[-1] == "False"
