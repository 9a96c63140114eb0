"""The Triton kernels compiled for sm_90 (H100, H200), which needs no GPU: what can be said of their speed without one.

An instruction per pair of pixel and class takes at least pixels · classes / (132 · 128 · 1.755e9) seconds on an H200, and the one
exponential per pair as long as eight. The counts include the mask of the target, which most tiles branch around.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from seg.kernels.triton.launches import Launch, class_launch, nearest_launch, padded_width, pixel_launch
from seg.kernels.triton.loss import class_kernel, pixel_kernel
from seg.kernels.triton.search import nearest_kernel, threshold_kernel
from shared.benchmark.compiled import POINTERS, compile_for_sm90

NUM_CLASSES = 1284  # for the choice of tiles: more change nothing
_POINTED_AT = {
    "float32": "vectors columns bias thresholds class_weights losses gradient other_sums shares peaks copies pulls weights_out",
    "float16": "class_high class_low half_high half_low",
    "bfloat16": "value_high value_low share_high share_low",
}
_FLOATS = "pixel_unit logit_unit sharpness gradient_unit margin relative_margin"
_ALIGNED = "num_classes column_step num_records record_step records_per_split"  # multiples of 16: Triton compiles for that at run time too
_INT32 = "num_neighbours ignore_index"


@dataclass(frozen=True)
class KernelCase:
    """A kernel and its variant.

    Attributes:
        name: what it does.
        function: the Triton function.
        launch: tile and warps.
        dim: embedding size.
        dtype: of the pixels.
        constants: compile-time arguments besides the tile and the dimension.
    """

    name: str
    function: Any
    launch: Launch
    dim: int
    dtype: str
    constants: dict[str, Any]


@dataclass(frozen=True)
class CompiledKernel:
    """What the compiler made of a kernel.

    Attributes:
        tile: pixels x classes.
        warps: per program.
        registers: per thread.
        spilled_bytes: per thread.
        shared_bytes: per program.
        instructions_per_pair: of the loop over the tiles, per pixel and class.
        instructions_per_round: of one more round of selection in a tile, per pixel and class; None where nothing is selected.
    """

    kernel: str
    dim: int
    dtype: str
    tile: str
    warps: int
    registers: int
    spilled_bytes: int
    shared_bytes: int
    instructions_per_pair: float
    instructions_per_round: float | None


def kernel_cases(dims: Iterable[int], dtypes: Iterable[str]) -> list[KernelCase]:
    """All kernels, of both kinds of logits; the variants with gradients, the longest shortlist, K = 8."""
    cases = []
    for dim, dtype in product(dims, dtypes):
        width = padded_width(dim)
        for bounded in (True, False):
            pixel, classes = pixel_launch(bounded, width, NUM_CLASSES), class_launch(bounded, width, NUM_CLASSES)
            logits, kind = {"BOUNDED": bounded, "PLAIN": not bounded}, "" if bounded else ", by differences"
            for select in (False, True):
                which, variant = ("neighbours" if select else "exact") + kind, logits | {"SELECT": select}
                cases.append(
                    KernelCase(f"pixels, {which}", pixel_kernel, pixel, dim, dtype, variant | {"GRADIENT": True, "WEIGHTED": False})
                )
                if dtype == "float32":  # records do not depend on the dtype
                    cases.append(KernelCase(f"classes, {which}", class_kernel, classes, dim, dtype, variant))
            cases.append(KernelCase(f"threshold{kind}", threshold_kernel, pixel, dim, dtype, logits | {"SLOTS": 8}))
        search = nearest_launch(NUM_CLASSES)
        cases += [
            KernelCase(f"nearest {count}", nearest_kernel, search, dim, dtype, {"COUNT": count, "SLOTS": slots})
            for count, slots in ((1, 1), (10, 16), (34, 64))
        ]
    return cases


def compile_kernel(case: KernelCase) -> CompiledKernel:
    """Compile for sm_90, in one to four seconds unless it is in Triton's cache."""
    launch = case.launch
    constants = case.constants | {"DIM": case.dim, "DIM_PAD": padded_width(case.dim)} | launch.tile()
    compiled = compile_for_sm90(case.function, partial(_type_of, pixel_dtype=case.dtype), constants, _ALIGNED.split(), launch.options())
    outer, *inner = compiled.loops
    per_thread = launch.block_p * launch.block_c / (32 * launch.num_warps)  # pairs
    body, rounds = float(len(outer) - sum(map(len, inner))), None
    for loop in inner:
        if case.function in (threshold_kernel, nearest_kernel) and not any("FFMA" in line for line in loop):
            rounds = len(loop) / per_thread
        else:  # over the dimensions: each takes one fused multiplication and addition per pair
            body += len(loop) * case.dim * per_thread / sum("FFMA" in line for line in loop)
    return CompiledKernel(
        kernel=case.name,
        dim=case.dim,
        dtype=case.dtype,
        tile=f"{launch.block_p}x{launch.block_c}",
        warps=launch.num_warps,
        registers=compiled.registers,
        spilled_bytes=compiled.spilled_bytes,
        shared_bytes=compiled.shared_bytes,
        instructions_per_pair=body / per_thread,
        instructions_per_round=rounds,
    )


def _type_of(name: str, pixel_dtype: str) -> str:
    special = {"pixels": POINTERS[pixel_dtype], "labels": "*i64", "blocks": "*i64", "ids": "*i64", "targets": "*i32"}
    if name in special:
        return special[name]
    for dtype, names in _POINTED_AT.items():
        if name in names.split():
            return POINTERS[dtype]
    if name in _FLOATS.split():
        return "fp32"
    return "i32" if name in f"{_ALIGNED} {_INT32}".split() else "i64"  # counts of pixels and strides: the largest maps
