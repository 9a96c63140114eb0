"""Tiles, warps and padding with which the Triton kernels are launched: chosen from the compiled code, fixed, nothing is tuned at run time.

Shapes: C classes, D embedding size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

LARGEST_DIM = 64
PADDING_LOGIT = -3e38  # below every logit, and unlike infinity still a number when its last bits change


@dataclass(frozen=True)
class Launch:
    """Pixels and classes of a tile, warps, stages of the pipeline that loads tiles ahead, and registers per thread (None: as the compiler
    likes; it may then prefer spilling a few of them to running fewer programs at a time)."""

    block_p: int
    block_c: int
    num_warps: int
    num_stages: int = 2
    max_registers: int | None = None

    def tile(self) -> dict[str, int]:
        """Compile-time arguments of a kernel."""
        return {"BLOCK_P": self.block_p, "BLOCK_C": self.block_c}

    def options(self) -> dict[str, int | None]:
        """Options of Triton's compiler: these, and products and sums fused whatever its default is."""
        return {"num_warps": self.num_warps, "num_stages": self.num_stages, "maxnreg": self.max_registers, "enable_fp_fusion": True}


def pixel_launch(bounded: bool, width: int, num_classes: int) -> Launch:
    """For the kernels of the loss that visit pixels, where BOUNDED or not.

    The pixels of a block depend on the width alone, because blocks are listed before `bounded` is known. 128 of them halve what is loaded
    per pixel, where the registers suffice.
    """
    block_p = 128 if width == 16 else 64
    if not bounded:
        return Launch(block_p, 64 if width == 32 else 32, 8, max_registers=255)
    return Launch(block_p, min(64, class_block(num_classes)), 8 if width == 64 else 4)


def class_launch(bounded: bool, width: int, num_classes: int) -> Launch:
    """For the class kernel. Classes are padded to a multiple of its block."""
    if not bounded:
        return Launch(64 if width == 16 else 32, 64, 8, max_registers=255)
    return Launch(64, max(64, class_block(num_classes)) if width == 16 else 64, 4, 3)


def nearest_launch(num_classes: int) -> Launch:
    """For the search that gives ids."""
    return Launch(64, min(64, class_block(num_classes)), 4)


def class_block(num_classes: int) -> int:
    """A power of two from 16 to 128, no larger than the classes need."""
    return min(128, max(16, next_power(num_classes)))


def next_power(count: int) -> int:
    """The smallest power of two that is at least `count`."""
    return 1 << (count - 1).bit_length()


def next_multiple(count: int, step: int) -> int:
    return -(-count // step) * step


def padded_width(dim: int) -> int:
    """16, 32 or 64: widths of the tensor cores' operands."""
    return max(16, next_power(dim))


class ClassTiles(NamedTuple):
    """Class embeddings as the kernels read them, padded with zeros: float32 (C, D), and the same over `longest` as two float16 parts."""

    vectors: torch.Tensor
    high: torch.Tensor
    low: torch.Tensor


def class_tiles(classes: torch.Tensor, longest: torch.Tensor | float, block: int) -> ClassTiles:
    """Class embeddings (C, D) float32, padded to a multiple of `block` and to `padded_width(D)`."""
    num_classes, dim = classes.shape
    vectors = F.pad(classes, (0, padded_width(dim) - dim, 0, -num_classes % block))
    scaled = vectors / longest
    high = scaled.half()
    return ClassTiles(vectors, high, (scaled - high).half())


def padded_bias(bias: torch.Tensor, length: int) -> torch.Tensor:
    """(C,) → (length,), so that no padding is ever chosen."""
    return F.pad(bias, (0, length - len(bias)), value=PADDING_LOGIT)
