"""The sweeps of `synth.modulation` on CUDA: what the Triton kernels (`synth.kernels_modulation_triton`) are given.

Shapes: P pixels of the batch, C channels, U rows.

Memory beyond inputs and results: the sums of the segments, 8·C bytes for each of them, at most U + P/256.

Checked in Triton's interpreter and by compiling for sm_90. Nothing here has run on a GPU.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shared.kernels import require_kernels
from synth.bags_triton import OPTIONS
from synth.gathered_convolution import Bags

MODULE = "synth.kernels_modulation_triton"


@dataclass(frozen=True)
class Tile:
    """Pixels and channels of a tile."""

    pixels: int
    channels: int


def map_tile(width: int) -> Tile:
    """For the kernels that visit pixels in their order: 16 numbers for each of 128 threads, whatever the width is."""
    channels = min(64, max(16, 1 << (width - 1).bit_length()))
    return Tile(2048 // channels, channels)


def segment_tile(width: int) -> Tile:
    """For the sums over segments. Many are short, so that more pixels at a time would mostly be none."""
    return Tile(16, map_tile(width).channels)


class TritonSweeps:
    """`synth.modulation.Sweeps` for float32, float16 and bfloat16.

    Raises:
        InputError: tensors on a device that the kernels cannot run on.
    """

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Sweeps`. By torch, whose kernel reads x once."""
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        return mean, variance

    def apply(self, x: Tensor, a: Tensor, b: Tensor, rows: Tensor, index: Tensor, slope: float) -> Tensor:
        """See `Sweeps`."""
        _require(x)
        from synth.kernels_modulation_triton import apply_kernel

        y = torch.empty_like(x)
        _visit_map(apply_kernel, x=x, a=a, b=b, rows=rows.contiguous(), index=index, y=y, slope=slope)
        return y

    def row_gradients(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, of_pixel: Bags) -> Tensor:
        """See `Sweeps`."""
        _require(x)
        from synth.kernels_modulation_triton import row_gradients_kernel

        (num_pixels, width), lists = x.shape, of_pixel.transposed
        tile, sums = segment_tile(width), x.new_empty(len(lists.segments), 2 * width, dtype=torch.float32)
        with torch.cuda.device_of(x):
            row_gradients_kernel[(len(sums), -(-width // tile.channels))](
                x=x, a=a, b=b, y=y, d=d.contiguous(), pixels=lists.bags, segments=lists.segments, sums=sums,
                num_segments=len(sums), num_pixels=num_pixels, width=width, slope=slope,
                ACTIVATED=slope != 1, BLOCK_C=tile.channels, STEP=tile.pixels, **OPTIONS,
            )  # fmt: skip
        return sums

    def input_gradient(
        self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, rows: Tensor, index: Tensor, means: tuple[Tensor, Tensor]
    ) -> Tensor:
        """See `Sweeps`."""
        _require(x)
        from synth.kernels_modulation_triton import input_gradient_kernel

        gradient = torch.empty_like(x)
        _visit_map(
            input_gradient_kernel, x=x, a=a, b=b, y=y, d=d.contiguous(), rows=rows.contiguous(), index=index,
            mean=means[0], mean_product=means[1], gradient=gradient, slope=slope, ACTIVATED=slope != 1,
        )  # fmt: skip
        return gradient


def _visit_map(kernel: Any, **arguments: Any) -> None:
    num_pixels, width = arguments["x"].shape
    tile = map_tile(width)
    with torch.cuda.device_of(arguments["x"]):
        kernel[(-(-num_pixels // tile.pixels), -(-width // tile.channels))](
            **arguments, num_pixels=num_pixels, width=width, BLOCK_P=tile.pixels, BLOCK_C=tile.channels, **OPTIONS
        )


def _require(x: Tensor) -> None:
    require_kernels(MODULE, x, what="features", instead="torch")
