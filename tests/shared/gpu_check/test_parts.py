"""A check and its row, programs that fail or are lost, time that ends, and what the command makes of all that."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.errors import InputError
from shared.gpu_check.checks import (
    ABSENT,
    CONTEXT_LOST,
    EQUAL,
    ERROR,
    MARK,
    MEASURED,
    NO_TIME,
    WRONG,
    Absent,
    Check,
    Found,
    Row,
    compared,
    perform,
    relative_errors,
    serve,
    share_of,
    worst_of,
)
from shared.gpu_check.children import Children, Part
from shared.gpu_check.config import SECTIONS, GpuCheckConfig, PartConfig
from shared.gpu_check.plan import chosen
from shared.gpu_check.report import figures_of, plots_of, table_of, verdict, write_report
from shared.run.directory import environment

Invoke = Callable[..., Any]


def found(equal: bool | None) -> Callable[[], Found]:
    return lambda: Found({"error": 1e-6}, equal)


def speed(*checks: Check) -> dict[str, Callable[[torch.device, bool], tuple[Check, ...]]]:
    """One section."""
    return {"speed": lambda device, rehearsal: checks}


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The rows that a program has printed."""
    lines = [json.loads(line.removeprefix(MARK)) for line in capsys.readouterr().out.splitlines() if line.startswith(MARK)]
    return [line for line in lines if "begin" not in line]


# --- Checks and rows --------------------------------------------------------------------------------------------------------


def test_every_end_of_a_check_is_a_row() -> None:
    def missing() -> Found:
        raise Absent("there is none")

    def broken() -> Found:
        raise RuntimeError("out of\norder")

    results = [perform(Check("one", run), "speed", "seg.gpu_check").result for run in (found(True), found(False), found(None), missing)]
    assert results == [EQUAL, WRONG, MEASURED, ABSENT]
    row = perform(Check("one", broken), "speed", "seg.gpu_check")
    assert row.result == ERROR and row.note == "RuntimeError: out of order" and "in broken" in row.trace


def test_what_fails() -> None:
    assert [Row("speed", "p", "n", result).fails for result in (EQUAL, MEASURED, ABSENT, NO_TIME, WRONG, ERROR)] == [False] * 4 + [True] * 2
    assert Row("equality", "p", "n", NO_TIME).fails, "an equality that was not looked at is not proven"


def test_a_failed_check_is_not_the_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Found:
        raise ValueError("no")

    serve(speed(Check("a", broken), Check("b", found(True))), PartConfig(["speed"], rehearsal=True), "p")
    assert [(row["name"], row["result"]) for row in told(capsys)] == [("a", ERROR), ("b", EQUAL)]


def test_without_time_checks_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    serve(speed(Check("a", found(True))), PartConfig(["speed"], rehearsal=True, seconds=-1.0), "p")
    assert [row["result"] for row in told(capsys)] == [NO_TIME]


def test_a_lost_context_ends_the_process_after_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    def lost() -> Found:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(SystemExit) as stop:
        serve(speed(Check("a", lost), Check("b", found(True))), PartConfig(["speed"], rehearsal=True), "p")
    assert stop.value.code == CONTEXT_LOST and [row["name"] for row in told(capsys)] == ["a"]


def test_shares_are_all_of_the_checks() -> None:
    checks = [("speed", Check(str(number), found(True))) for number in range(10)]
    shared = [check for number in range(4) for check in share_of(checks, (number, 4))]
    assert sorted(int(check.name) for _, check in shared) == list(range(10))


def test_comparison() -> None:
    truth = [torch.ones(4), torch.zeros(2)]
    assert relative_errors([torch.full((4,), 1.5), torch.tensor([3.0, 4.0])], truth) == [0.5, 5.0]
    assert relative_errors([torch.tensor([float("nan")])], [torch.ones(1)]) == [float("inf")]
    assert compared(["a", "b"], truth, truth, 1e-9).equal
    wrong = compared(["a", "b"], [torch.full((4,), 1.5), torch.zeros(2)], truth, [1.0, 0.1])
    assert wrong.equal and not compared(["a"], [torch.full((4,), 1.5)], truth[:1], 0.1).equal
    with pytest.raises(AssertionError, match="shape"):
        relative_errors([torch.ones(3)], truth[:1])


def test_the_worst_of_several_sizes() -> None:
    some = [("small", Found({"error": 1.0, "repeats": "no"}, True)), ("large", Found({"error": 3.0, "repeats": "yes"}, False, "off"))]
    whole = worst_of(some)
    assert whole.figures == {"error": 3.0, "repeats": "sometimes"} and whole.equal is False and whole.note == "large: off"


# --- Report -----------------------------------------------------------------------------------------------------------------

ROWS = [
    Row("equality", "seg.gpu_check", "loss", EQUAL, {"error": 1e-7}),
    Row("speed", "seg.gpu_check", "exact", MEASURED, {"ms": 2.0, "peak MiB": 3.0}, setting={"plot": "losses", "curve": "exact", "x": 19}),
    Row("speed", "seg.gpu_check", "exact", MEASURED, {"ms": 4.0, "peak MiB": 3.0}, setting={"plot": "losses", "curve": "exact", "x": 150}),
    Row("speed", "synth.gpu_check", "step", MEASURED, {"ms": 1.0}, setting={"plot": "one size alone", "curve": "step", "x": 19}),
    Row("speed", "seg.gpu_check", "ratios", MEASURED, {"×": 6.0, "of floor": 0.3}, goals={"×": 5.0, "of floor": 0.4}),
]


def test_report(tmp_path: Path) -> None:
    write_report(tmp_path, environment(), ROWS, plots=True)
    page, content = (tmp_path / "gpu_check.md").read_text(), json.loads((tmp_path / "gpu_check.json").read_text())
    assert "seg: loss" in page and "× 6 (goal 5: met), of floor 0.3 (goal 0.4: missed)" in page
    assert [row["name"] for row in content["rows"]] == ["loss", "exact", "exact", "step", "ratios"]
    assert content["verdict"] == "1 equalities hold"
    assert {path.name for path in tmp_path.glob("*.png")} == {"losses_time.png", "losses_memory.png"}
    assert len(table_of(ROWS).rows) == 5 and len(plots_of(ROWS)) == 2
    assert verdict([*ROWS, Row("equality", "p", "n", WRONG)]) == "1 equalities hold; 1 × WRONG"
    assert figures_of(Row("speed", "p", "n", MEASURED, {"kind": "bytes", "share": 0.5})) == "kind bytes, share 0.5"


# --- Programs and the command -----------------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
skip = int(sys.argv[sys.argv.index("--skip") + 1])
for number in range(skip, 4):
    print({mark!r} + json.dumps({{"begin": str(number), "section": "equality"}}), flush=True)
    if number == 1:
        {ending}
    row = {{"section": "equality", "program": "made", "name": str(number), "result": "equal", "figures": {{"error": None}}}}
    print({mark!r} + json.dumps(row), flush=True)
"""


def outcomes(folder: Path, monkeypatch: pytest.MonkeyPatch, ending: str, seconds: float = 60.0) -> list[tuple[str, str]]:
    """Rows of a program that ends so in its second check."""
    (folder / "made.py").write_text(PROGRAM.format(mark=MARK, ending=ending))
    monkeypatch.syspath_prepend(str(folder))
    rows: list[Row] = []
    Children(True, time.monotonic() + seconds, rows.append).run([Part(("equality",), "made", 1)])
    return [(row.name, row.result) for row in rows]


def test_a_program_that_dies_goes_on_after_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcomes(tmp_path, monkeypatch, "sys.exit('broken')") == [("0", EQUAL), ("1", ERROR), ("2", EQUAL), ("3", EQUAL)]


def test_a_program_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.gpu_check.children.GRACE", 1.0)
    assert outcomes(tmp_path, monkeypatch, "import time; time.sleep(60)", seconds=0.5) == [("0", EQUAL), ("1", NO_TIME)]


def test_a_program_that_cannot_start_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Row] = []
    Children(True, time.monotonic() + 60, rows.append).run([Part(("equality",), "shared.no_such_program", 1)])
    assert [(row.name, row.result) for row in rows] == [("start", ERROR)] and "No module named" in rows[0].note


def test_stages_share_out_the_time() -> None:
    stages = chosen(GpuCheckConfig(Path("x")))
    assert stages[-1].until == pytest.approx(1)
    assert {name for stage in stages for part in stage.parts for name in part.sections} == {*SECTIONS}
    assert [stage.until for stage in chosen(GpuCheckConfig(Path("x"), sections=["machine"]))] == [pytest.approx(1)]
    with pytest.raises(InputError, match="seconds is 0"):
        GpuCheckConfig(Path("x"), seconds=0)


@pytest.mark.parametrize(("results", "status"), [([EQUAL, MEASURED], 0), ([EQUAL, WRONG], 1), ([ERROR], 1)])
def test_exit_status(results: list[str], status: int, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Children, parts: list[Part]) -> None:
        for result in results:
            self.add(Row("equality", "p", "n", result))

    monkeypatch.setattr(Children, "run", run)
    assert invoke("shared.gpu_check", "-o", tmp_path, "--rehearsal", "--sections", "[equality]").status == status
    assert (tmp_path / "gpu_check.md").is_file()


def test_without_a_gpu_the_rehearsal_is_named(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    outcome = invoke("shared.gpu_check", "-o", tmp_path / "out")
    assert outcome.status == 1 and "--rehearsal" in outcome.errors and not (tmp_path / "out").exists()
    assert "equality: python -m seg.gpu_check" in invoke("shared.gpu_check", "-o", tmp_path, "--dry-run").output


@pytest.mark.long  # half a minute of a core; continuous integration runs it
def test_rehearsal(tmp_path: Path, invoke: Invoke) -> None:
    """The whole command on the CPU, with Triton's interpreter."""
    pytest.importorskip("triton")
    outcome = invoke("shared.gpu_check", "-o", tmp_path, "--rehearsal", "--seconds", 1200)
    rows = json.loads((tmp_path / "gpu_check.json").read_text())["rows"]
    assert outcome.status == 0, [row for row in rows if row["result"] in (WRONG, ERROR, NO_TIME)] or outcome.errors
    assert {row["section"] for row in rows} == {*SECTIONS}
    assert sum(row["result"] == EQUAL for row in rows) > 30 and any(row["result"] == EQUAL and "triton" in row["name"] for row in rows)
