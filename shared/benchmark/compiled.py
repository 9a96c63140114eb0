"""Triton kernels compiled for sm_90 (H100, H200), which needs no GPU: registers, spills and instructions."""

import re
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TARGET = GPUTarget("cuda", 90, 32)
POINTERS = {"float32": "*fp32", "float16": "*fp16", "bfloat16": "*bf16"}
"""Types of arguments, by the dtype that they point to."""
Instructions = list[tuple[int, str]]


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of a kernel.

    Attributes:
        registers, spilled_bytes: per thread.
        shared_bytes: per program.
        instructions: (address, text) in their order.
    """

    registers: int
    spilled_bytes: int
    shared_bytes: int
    instructions: Instructions

    @cached_property
    def loops(self) -> list[list[str]]:
        """The largest loop, and the largest ones inside it. A loop ends in a branch to an earlier place and does not leave the kernel."""
        found = []
        for end, text in self.instructions:
            branch = re.search(r"\bBRA\b.*?(0x[0-9a-f]+)", text)
            if branch and int(branch[1], 16) < end:
                body = [line for address, line in self.instructions if int(branch[1], 16) <= address <= end]
                if not any("EXIT" in line for line in body):
                    found.append((int(branch[1], 16), end, body))
        found.sort(key=lambda loop: len(loop[2]), reverse=True)
        if not found:
            return []
        start, end, outer = found[0]
        inside = [loop for loop in found[1:] if start <= loop[0] and loop[1] <= end]
        inner = [loop for loop in inside if not any(other is not loop and other[0] <= loop[0] and loop[1] <= other[1] for other in inside)]
        return [outer, *(body for _, _, body in inner)]


def compile_for_sm90(
    function: Any, type_of: Callable[[str], str], constants: Mapping[str, Any], aligned: Collection[str], options: Mapping[str, Any]
) -> Compiled:
    """Compile a kernel, in one to four seconds unless it is in Triton's cache.

    Args:
        function: the Triton function.
        type_of: gives the type of an argument that is not in `constants`, by its name, such as "*fp32" or "i64".
        constants: compile-time arguments.
        aligned: numbers that are multiples of 16, as pointers always are here: Triton compiles for that at run time too.
        options: of Triton's compiler.
    """
    names = function.arg_names
    signature = {name: "constexpr" if name in constants else type_of(name) for name in names}
    source = ASTSource(
        fn=function,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*") or name in aligned},
    )
    compiled = triton.compile(source, target=TARGET, options=dict(options))
    usage, instructions = _disassemble(compiled.asm["cubin"])
    return Compiled(usage["REG"], usage["STACK"] + usage["LOCAL"], compiled.metadata.shared, instructions)


def _disassemble(binary: bytes) -> tuple[dict[str, int], Instructions]:
    """Resource usage, and (address, instruction) in their order."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        usage, code = (
            subprocess.run([tool, option, path], capture_output=True, text=True, check=True).stdout for option in ("-res-usage", "-sass")
        )
    found = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    return found, [(int(address, 16), text) for address, text in re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", code)]
