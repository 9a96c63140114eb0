"""Timing, memory, child processes, floors and tables of the benchmarks."""

import time
from pathlib import Path

import pytest
import torch

from shared.benchmark.ceilings import Ceilings, Work, measure_ceilings
from shared.benchmark.contest import Contestant, Footprint, Limits, Result, run_contest
from shared.benchmark.isolation import MIB, Failed, limit_memory, run_in_child
from shared.benchmark.report import Curve, Plot, percent, result_table, save_plot, three_digits, to_markdown, to_text
from shared.benchmark.timing import Timing, disturbance, time_interleaved

CPU = torch.device("cpu")
CEILINGS = Ceilings(copy=10e9, matrix=100e9, exponential=1e9)
LIMITS = Limits(repeats=2, seconds=60.0, memory=100 * MIB, timeout=10.0)
CHILD = """
from shared.benchmark.isolation import answer_parent
from shared.benchmark.isolation import limit_memory, peak_above
import torch

def perform(task):
    if task["limit"]:
        limit_memory(task["limit"], torch.device("cpu"))
    torch.ones(1000)
    return {"peak": peak_above(lambda: torch.ones(task["bytes"] // 4), torch.device("cpu"))}

answer_parent(perform)
"""


@pytest.fixture
def child_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a program that a child process can run, and gives its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> str:
        (tmp_path / "child_program.py").write_text(source)
        return "child_program"

    return write


def result(contestant: str, **fields) -> Result:
    return Result("losses", {"classes": 19, "pixels": 100}, contestant, **fields)


def test_the_limit_of_a_gpu_is_set_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses the device "cuda" without one there, and takes None for the current one."""
    found = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10, 40))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *arguments: found.append(arguments))
    limit_memory(10, torch.device("cuda"))
    limit_memory(100, torch.device("cuda", 1))
    assert found == [(0.25, None), (1.0, 1)]


# --- Timing -----------------------------------------------------------------------------------------------------------------


class Clock:
    """Takes the place of the module `time`: it goes on only by what a call says that it does."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def perf_counter(self) -> float:
        return self.wall

    def process_time(self) -> float:
        return self.processor

    def sleep(self, seconds: float) -> None:
        self.wall += seconds

    def compute(self, seconds: float) -> None:
        self.wall += seconds
        self.processor += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("shared.benchmark.timing.time", made)
    return made


def test_wall_clock_and_processor_time_are_told_apart(clock: Clock) -> None:
    calls = {"asleep": lambda: clock.sleep(0.25), "at work": lambda: clock.compute(0.125)}
    found = time_interleaved(calls, repeats=5, seconds=2.0, device=CPU)
    assert found == {"asleep": Timing(0.25, 0.0, 0.0, 5), "at work": Timing(0.125, 0.0, 0.125, 5)}


def test_median_and_spread(clock: Clock) -> None:
    durations = iter([9.0, 1.0, 2.0, 4.0, 3.0, 5.0])  # the first warms up
    found = time_interleaved({"a": lambda: clock.sleep(next(durations))}, repeats=5, seconds=90.0, device=CPU)
    assert found == {"a": Timing(3.0, pytest.approx(2 / 3), 0.0, 5)}


def test_calls_take_turns_and_slow_ones_have_fewer_samples(clock: Clock) -> None:
    order = []

    def call(name: str, seconds: float) -> None:
        order.append(name)
        clock.sleep(seconds)

    calls = {"a": lambda: call("a", 0.001), "b": lambda: call("b", 0.04), "c": lambda: call("c", 0.2)}
    found = time_interleaved(calls, repeats=4, seconds=0.1, device=CPU)
    assert "".join(order) == "abc" + "ab" + "ab" + "a" + "a"
    assert isinstance(found["c"], Timing) and found["c"].seconds == 0.2, "the first sample of a slow call counts"


def test_time_passes() -> None:
    """The same with the real clock, on which nothing but this is certain."""
    found = time_interleaved({"asleep": lambda: time.sleep(0.01)}, repeats=2, seconds=600.0, device=CPU)["asleep"]
    assert isinstance(found, Timing) and found.seconds >= 0.01 and found.samples == 2


def test_a_failing_call_leaves_the_others_alone() -> None:
    def fail() -> None:
        raise ValueError("no")

    found = time_interleaved({"bad": fail, "good": lambda: None}, repeats=2, seconds=1.0, device=CPU)
    assert isinstance(found["bad"], ValueError)
    assert isinstance(found["good"], Timing)


def test_disturbance_is_a_share() -> None:
    with disturbance() as others:
        time.sleep(0.05)
    assert others.share is None or 0 <= others.share <= 1


# --- Memory and child processes ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_peak_of_a_known_allocation(child_module) -> None:
    answer = run_in_child(child_module(CHILD), {"bytes": 64 * MIB, "limit": None}, timeout=600)
    assert 63 * MIB < answer["peak"] < 67 * MIB


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_too_much_memory_is_a_reason(child_module) -> None:
    with pytest.raises(Failed, match=r"^out of memory$"):
        run_in_child(child_module(CHILD), {"bytes": 512 * MIB, "limit": 128 * MIB}, timeout=600)


@pytest.mark.parametrize(
    ("source", "timeout", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 600, r"killed by signal 9 \(out of memory\?\)"),
        ("import time; time.sleep(600)", 1, "stopped after 1 s"),
        ("raise SystemExit('something broke')", 600, "ended with status 1: something broke"),
    ],
)
def test_a_child_that_dies_is_a_reason(child_module, source: str, timeout: float, reason: str) -> None:
    with pytest.raises(Failed, match=reason):
        run_in_child(child_module(source), {}, timeout=timeout)


# --- Floors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (Work(bytes=20e9, flops=100e9, exponentials=0.5e9), (2.0, "bytes")),
        (Work(bytes=1e9, flops=300e9, exponentials=2e9), (3.0, "matrix")),
        (Work(bytes=1e9, flops=1e9, exponentials=4e9), (4.0, "exponential")),
    ],
)
def test_the_floor_is_the_slowest_part(work: Work, expected: tuple[float, str]) -> None:
    assert work.floor(CEILINGS) == expected


def test_ceilings_are_positive_and_the_better_of_two_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.benchmark.ceilings.MEASURING_SECONDS", 0.0)
    found = measure_ceilings(CPU)
    assert min(found.copy, found.matrix, found.exponential) > 1e6
    assert Ceilings(1, 5, 3).or_better(Ceilings(2, 4, 3)) == Ceilings(2, 5, 3)


def test_the_exponential_kernel_keeps_its_numbers_in_registers() -> None:
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from shared.benchmark.exponentials_triton import _exponentials_kernel

    types = {"pointer": "*fp32", "ROUNDS": "constexpr", "BLOCK": "constexpr"}
    source = ASTSource(_exponentials_kernel, signature=types, constexprs={"ROUNDS": 256, "BLOCK": 1024})
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
    assert compiled.count("ex2.approx") == 1024 // 128, "one per number of a thread and round"
    assert ".local" not in compiled


# --- Contest ----------------------------------------------------------------------------------------------------------------


def contest(contestants: list[Contestant], footprint, full=None, growth: float = 1.0) -> dict[str, Result]:
    results = run_contest(
        "losses",
        {"classes": 19},
        contestants,
        {contestant.name: contestant for contestant in contestants},
        footprint=footprint,
        full_footprint=full,
        growth=growth,
        ceilings=CEILINGS,
        limits=LIMITS,
        device=CPU,
    )
    return {result.contestant: result for result in results}


def test_contestants_that_cannot_run_have_a_reason_and_the_others_figures() -> None:
    def footprint(name: str) -> Footprint:
        if name == "greedy":
            raise Failed("out of memory")
        return Footprint(peak=7 * MIB, seconds=0.1)

    def idle():
        return lambda: None

    def failing():
        raise ValueError("no such thing\nand a long story")

    found = contest(
        [
            Contestant("good", idle, Work(1e9, 0), errors=lambda: {"loss": 1e-7}),
            Contestant("elsewhere", idle, obstacle="runs on cuda only"),
            Contestant("huge", idle, predict_peak=lambda: 2000 * MIB),
            Contestant("greedy", idle),
            Contestant("failing", lambda: failing),
            Contestant("unprepared", failing),
            Contestant("unchecked", idle, errors=failing),
        ],
        footprint,
    )
    assert {name: result.note for name, result in found.items()} == {
        "good": "",
        "elsewhere": "runs on cuda only",
        "huge": "would need 2,000 MiB",
        "greedy": "out of memory",
        "failing": "ValueError: no such thing",
        "unprepared": "ValueError: no such thing",
        "unchecked": "errors not measured: ValueError: no such thing",
    }
    good = found["good"]
    assert good.timing is not None and good.timing.samples == 2
    assert (good.peak, good.full_peak, good.floor, good.floor_kind) == (7 * MIB, 7 * MIB, 0.1, "bytes")
    assert good.errors == {"loss": 1e-7}
    assert found["huge"].predicted_peak == 2000 * MIB


@pytest.mark.parametrize(("seconds", "peak", "expected"), [(0.1, MIB, 3 * MIB), (200.0, MIB, None), (0.1, 60 * MIB, None)])
def test_the_full_size_is_measured_where_it_is_affordable(seconds: float, peak: int, expected: int | None) -> None:
    contestant = Contestant("a", lambda: lambda: None)
    found = contest([contestant], lambda _: Footprint(peak, seconds), full=lambda _: Footprint(3 * MIB, 1.0), growth=2.0)
    assert (found["a"].peak, found["a"].full_peak) == (peak, expected)


def test_a_failure_at_the_full_size_does_not_cost_the_other_figures() -> None:
    def fail(name: str) -> Footprint:
        raise Failed("stopped after 10 s")

    found = contest([Contestant("a", lambda: lambda: None)], lambda _: Footprint(MIB, 0.1), full=fail, growth=2.0)["a"]
    assert (found.peak, found.full_peak, found.note) == (MIB, None, "all pixels: stopped after 10 s")
    assert found.timing is not None


# --- Tables, plots ----------------------------------------------------------------------------------------------------------


def test_the_table_compares_with_the_baselines() -> None:
    base = result("released way (FAISS)", timing=Timing(0.5, 0.1, 0.9, 5), peak=100 * MIB, full_peak=100 * MIB)
    ours = result("exact (numba)", timing=Timing(0.05, 0.0, 0.1, 5), peak=20 * MIB, full_peak=20 * MIB, floor=0.02, errors={"loss": 3e-7})
    skipped = result("dense softmax", predicted_peak=400 * MIB, note="would need 400 MiB")
    table = result_table([base, ours, skipped], ["released way", "dense softmax"])
    row = dict(zip(table.columns, table.rows[1]))
    assert row["ms"] == "50" and row["MiB"] == "20" and row["of floor"] == "40 %" and row["loss error"] == "3e-07"
    assert row["× released way"] == "10 / 5"
    assert row["× dense softmax"] == "– / 20", "a baseline that could not be run counts with its prediction"
    assert table.rows[2][-1] == "would need 400 MiB"
    lines = to_text(table).splitlines()
    assert len(lines) == 4 and lines[1].startswith("released way (FAISS)  ")
    assert to_markdown(table).splitlines()[1].startswith("| :--- | ---: |")


def test_a_prediction_shows_its_error() -> None:
    measured = result("softmax", peak=100 * MIB, full_peak=100 * MIB, predicted_peak=95 * MIB)
    table = result_table([measured], [])
    assert dict(zip(table.columns, table.rows[0]))["MiB predicted"] == "95 (-5 %)"


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0.01234, "0.0123"), (1.0, "1"), (99.94, "99.9"), (1234567.0, "1,234,567")])
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert three_digits(value) == text
    assert percent(None) == "" and percent(0.5) == "50 %"


def test_curves_are_drawn_only_where_there_are_points(tmp_path: Path) -> None:
    assert not save_plot(tmp_path, Plot("none.png", "", "", {"a": Curve()}))
    curves = {"a": Curve(), "b": Curve({19: 3.0}, {150: 9.0}), "c": Curve(predicted={19: 2.0})}
    assert save_plot(tmp_path, Plot("some.png", "t", "y", curves))
    assert [path.name for path in tmp_path.iterdir()] == ["some.png"]
    assert (tmp_path / "some.png").read_bytes().startswith(b"\x89PNG")
