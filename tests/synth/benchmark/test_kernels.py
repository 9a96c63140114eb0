"""The Triton kernels of synthesis compiled for sm_90 on this machine: no spills, few registers, and a bound on the instructions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from synth.benchmark.kernels import CompiledKernel, KernelCase, compile_kernel, kernel_cases
from synth.kernels.triton_bags import DTYPES

PER_BYTE = 9  # instructions that an H100 issues while it moves a byte
# instructions per number, of float32 and bfloat16: measured with Triton 3.9, and a little more; bytes of each that move at least
BOUNDS = {
    "bags, long": (6.5, 0),
    "bags, long and weighted": (8, 0),
    "bags of one": (25, 4),
    "bags of neighbours": (4.5, 2),
    "apply": (18, 4),
    "row gradients": (14.5, 6),
    "input gradient": (22, 8),
}


def compile_or_skip(case: KernelCase) -> CompiledKernel:
    try:
        return compile_kernel(case)
    except (FileNotFoundError, PermissionError, ImportError) as error:
        pytest.skip(f"Triton cannot compile for NVIDIA GPUs here: {error}")


@pytest.mark.parametrize("case", kernel_cases([torch.float32, torch.bfloat16]), ids=lambda case: f"{case.name}, {case.dtype}")
def test_the_kernels_are_lean(case: KernelCase) -> None:
    """Rows of 128 numbers; all but the long bags, which caches feed, wait for memory rather than for instructions."""
    compiled = compile_or_skip(case)
    most, least_bytes = BOUNDS[case.name]
    assert compiled.spilled_bytes == 0
    assert compiled.registers <= 80, "six programs of four warps on each multiprocessor"
    assert compiled.shared_bytes <= 4096
    assert 1 <= compiled.instructions_per_number <= most
    assert least_bytes == 0 or compiled.instructions_per_number <= PER_BYTE * least_bytes


def test_a_count_of_instructions_sees_more_work() -> None:
    """A weighted bag multiplies each number once more."""
    plain, weighted = (compile_or_skip(case) for case in kernel_cases([torch.float32]) if case.name.startswith("bags, long"))
    assert 0.5 <= weighted.instructions_per_number - plain.instructions_per_number <= 4


@pytest.mark.parametrize("obstacle", ["", "no compiler here"])
def test_the_benchmark_tells_of_them(obstacle: str, tmp_path: Path, invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def one_case(dtypes: list[torch.dtype]) -> list[KernelCase]:
        if obstacle:
            raise RuntimeError(obstacle)
        return [case]

    case = kernel_cases([torch.float32])[0]
    compile_or_skip(case)
    monkeypatch.setattr("synth.benchmark.kernels.kernel_cases", one_case)
    monkeypatch.setattr("shared.benchmark.ceilings.MEASURING_SECONDS", 0.0)
    outcome = invoke("synth.benchmark", "--what", "[kernels]", "--maps", 1, "--run_dir", "run")
    assert outcome.status == 0, outcome.errors
    assert (obstacle or "bags, long") in outcome.output
    assert ("## Kernels compiled for sm_90" in (tmp_path / "run/benchmark.md").read_text()) == (not obstacle)


@pytest.mark.minutes
@pytest.mark.parametrize("width", [3, 16, 64, 100, 1024])
def test_no_kernel_spills(width: int) -> None:
    for case in kernel_cases(DTYPES, width):
        compiled = compile_or_skip(case)
        assert compiled.spilled_bytes == 0 and compiled.registers <= 255, compiled
