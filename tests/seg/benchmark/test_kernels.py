"""The Triton kernels compiled for sm_90 on this machine: no spills, and a bound on the instructions per pair of pixel and class."""

from dataclasses import replace

import pytest

pytest.importorskip("triton", reason="Triton is not installed")

from seg.benchmark.kernels import CompiledKernel, KernelCase, compile_kernel, kernel_cases

# instructions per pair of the loop over the tiles, and per round of a selection: measured with Triton 3.4, 3.6 and 3.9, and a little more
BOUNDS = {
    "pixels, exact": (12.5, None),
    "classes, exact": (12.5, None),
    "pixels, neighbours": (15, None),
    "classes, neighbours": (15, None),
    "threshold": (7, 6),
    "nearest 1": (7, 8.5),
}


def compile_or_skip(case: KernelCase) -> CompiledKernel:
    try:
        return compile_kernel(case)
    except (FileNotFoundError, PermissionError, ImportError) as error:
        pytest.skip(f"Triton cannot compile for NVIDIA GPUs here: {error}")


@pytest.mark.parametrize("case", [case for case in kernel_cases([12], ["float32"]) if case.name in BOUNDS], ids=lambda case: case.name)
def test_the_kernels_of_the_paper_size_are_lean(case: KernelCase) -> None:
    compiled = compile_or_skip(case)
    per_pair, per_round = BOUNDS[case.name]
    assert compiled.spilled_bytes == 0 and compiled.registers <= 255
    assert compiled.shared_bytes <= 227 * 1024 // 2, "two programs on each multiprocessor"
    assert compiled.instructions_per_pair <= per_pair
    assert (compiled.instructions_per_round is None) == (per_round is None)
    assert per_round is None or (compiled.instructions_per_round or 0) <= per_round


def test_a_count_of_instructions_sees_more_work() -> None:
    """The variant that selects compares every logit; the wider product takes more instructions."""
    exact, neighbours = (
        compile_or_skip(case) for case in kernel_cases([12], ["float32"]) if case.name in ("classes, exact", "classes, neighbours")
    )
    assert 1 <= neighbours.instructions_per_pair - exact.instructions_per_pair <= 4


@pytest.mark.minutes
@pytest.mark.parametrize("dim", [2, 12, 16, 32, 33, 64])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_no_kernel_spills(dim: int, dtype: str) -> None:
    cases = kernel_cases([dim], [dtype])
    cases += [replace(case, constants=case.constants | {"PLAIN": False}) for case in cases if "differences" in case.name]
    for case in cases:
        compiled = compile_or_skip(case)
        assert compiled.spilled_bytes == 0 and compiled.registers <= 255, compiled


@pytest.mark.minutes
@pytest.mark.parametrize("num_classes", [2, 19, 100])
def test_no_kernel_spills_where_classes_are_few(num_classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seg.benchmark.kernels.NUM_CLASSES", num_classes)
    for case in kernel_cases([12], ["float32"]):
        compiled = compile_or_skip(case)
        assert compiled.spilled_bytes == 0, compiled
