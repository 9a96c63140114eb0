"""The Triton kernels of synthesis compiled for sm_90 (H100, H200), which needs no GPU: what can be said of their speed without one.

An H100 issues 132 · 128 · 1.755e9 instructions per second and moves 3.35e12 bytes, nine instructions per byte: a kernel with fewer waits
for memory. What has to move is in the docstrings of the kernels, for example 8 bytes per number of `apply` in float32.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from shared.benchmark.compiled import POINTERS, compile_for_sm90
from synth.kernels.triton_bags import OPTIONS, bag_kernel, bag_launch
from synth.kernels.triton_sweeps import apply_kernel, input_gradient_kernel, map_tile, row_gradients_kernel, segment_tile

_FEATURES = "x y d rows gradient"
_FLOAT32 = "a b mean mean_product weights sums"
_IDS = "index indices offsets pixels segments"


@dataclass(frozen=True)
class KernelCase:
    """A kernel and its variant.

    Attributes:
        name: what it does.
        function: the Triton function.
        width: channels.
        dtype: of the features, or of the rows that are summed.
        constants: compile-time arguments.
        tile: numbers that a program, or a round of its loop, reads of every input.
    """

    name: str
    function: Any
    width: int
    dtype: torch.dtype
    constants: dict[str, Any]
    tile: int

    @property
    def dtype_name(self) -> str:
        """Such as "float32"."""
        return str(self.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class CompiledKernel:
    """What the compiler made of a kernel.

    Attributes:
        registers: per thread.
        spilled_bytes: per thread.
        shared_bytes: per program.
        instructions_per_number: of the loop where there is one, else of everything, per pixel (or entry of a bag) and channel.
    """

    kernel: str
    width: int
    dtype: str
    registers: int
    spilled_bytes: int
    shared_bytes: int
    instructions_per_number: float


def kernel_cases(dtypes: Iterable[torch.dtype], width: int = 128) -> list[KernelCase]:
    """All kernels, for layers with an activation, and all kinds of bags."""
    cases = []
    for dtype in dtypes:
        for name, entries, gathered, weighted in (
            ("bags, long", 9, True, False),
            ("bags, long and weighted", 9, True, True),
            ("bags of one", 1, True, False),
            ("bags of neighbours", 9, False, False),
        ):
            tile = bag_launch(entries, 1, width, dtype, gathered).tile()
            constants = tile | {"GATHERED": gathered, "WEIGHTED": weighted}
            cases.append(KernelCase(name, bag_kernel, width, dtype, constants, math.prod(tile.values())))
        by_pixel, by_segment = map_tile(width), segment_tile(width)
        block: dict[str, Any] = {"BLOCK_P": by_pixel.pixels, "BLOCK_C": by_pixel.channels}
        steps = {"STEP": by_segment.pixels, "BLOCK_C": by_segment.channels, "ACTIVATED": True}
        cases += [
            KernelCase("apply", apply_kernel, width, dtype, block, by_pixel.pixels * by_pixel.channels),
            KernelCase("row gradients", row_gradients_kernel, width, dtype, steps, by_segment.pixels * by_segment.channels),
            KernelCase(
                "input gradient", input_gradient_kernel, width, dtype, block | {"ACTIVATED": True}, by_pixel.pixels * by_pixel.channels
            ),
        ]
    return cases


def compile_kernel(case: KernelCase) -> CompiledKernel:
    """Compile for sm_90, in one to four seconds unless it is in Triton's cache."""
    compiled = compile_for_sm90(
        case.function, partial(_type_of, case=case), case.constants, ["width"] if case.width % 16 == 0 else [], OPTIONS
    )
    counted = compiled.loops[0] if compiled.loops else [text for _, text in compiled.instructions if not text.startswith("NOP")]
    return CompiledKernel(
        kernel=case.name,
        width=case.width,
        dtype=case.dtype_name,
        registers=compiled.registers,
        spilled_bytes=compiled.spilled_bytes,
        shared_bytes=compiled.shared_bytes,
        instructions_per_number=len(counted) * 32 * OPTIONS["num_warps"] / case.tile,
    )


def _type_of(name: str, case: KernelCase) -> str:
    if name in _FEATURES.split() or (name == "sums" and case.function is bag_kernel):
        return POINTERS[case.dtype_name]
    if name in _FLOAT32.split():
        return "*fp32"
    if name in _IDS.split():
        return "*i64"
    return "fp32" if name == "slope" else "i32"
