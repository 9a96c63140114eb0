"""What a run found, as text, JSON and Markdown; kernels of a module that can, or cannot, be loaded."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.benchmark.findings import Benchmark, compiled_kernels, require_empty
from shared.benchmark.isolation import Failed
from shared.benchmark.report import Grid, record_table
from shared.errors import InputError

KERNELS = """
from dataclasses import dataclass

@dataclass
class Kernel:
    kernel: str
    registers: int

def kernel_cases(count):
    return range(count)

def compile_kernel(case):
    return Kernel(f"number {case}", 10 * case)
"""


@dataclass(frozen=True)
class Line:
    name: str
    count: int


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "made_kernels.py").write_text(KERNELS)
    return "made_kernels"


def test_tables_are_told_and_kept(tmp_path: Path, kernels: str) -> None:
    told: list[str] = []
    environment = {"command": "python -m x", "machine": "a machine", "libraries": {"torch": "2"}, "date": "today"}
    found = Benchmark("A page", environment, {"threads": 2, "seed": 0, "memory_limit": 3.0}, told.append)
    found.add_table("Lines", record_table([Line("a", 1234)]), lines=[Line("a", 1234)])
    found.add_table("Nothing", Grid([], []), others=[])
    found.add_kernels(kernels, count=2)
    found.add_kernels("no_such_kernels")
    found.write(tmp_path, [])
    assert found.conditions == "a machine, 2 threads, seed 0, at most 3.0 GiB per contestant"
    assert told[0] == "\nLines\nname  count\na     1,234"
    assert told[-2:] == [
        "\nNo kernels compiled for sm_90: ModuleNotFoundError: No module named 'no_such_kernels'",
        f"wrote {tmp_path / 'benchmark.md'}",
    ]
    page = (tmp_path / "benchmark.md").read_text()
    assert page.startswith("# A page\n\n`python -m x`\n\na machine, 2 threads; torch 2; today\n\n## Lines\n\n| name | count |\n")
    assert "| number 1 | 10 |" in page and "Nothing" not in page
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert report["lines"] == [{"name": "a", "count": 1234}] and report["others"] == report["sections"] == []
    assert report["kernels"] == [{"kernel": "number 0", "registers": 0}, {"kernel": "number 1", "registers": 10}]


def test_a_failure_to_compile_is_a_reason(kernels: str) -> None:
    with pytest.raises(Failed, match=r"^TypeError: kernel_cases\(\) got an unexpected keyword argument 'counts'$"):
        compiled_kernels(kernels, counts=1)


def test_results_are_not_mixed_with_other_files(tmp_path: Path) -> None:
    require_empty(tmp_path / "new")
    require_empty(tmp_path)
    (tmp_path / "old.txt").touch()
    with pytest.raises(InputError, match="is not empty; choose another --run_dir"):
        require_empty(tmp_path)
