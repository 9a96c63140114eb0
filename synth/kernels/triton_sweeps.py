# mypy: disable-error-code="no-untyped-def"
"""The sweeps of `synth.kernels.modulation` on CUDA: Triton kernels, what they are given, and whether they agree with plain torch.

Shapes: P pixels of the batch, U rows, C channels; tiles of BLOCK_P pixels and BLOCK_C channels, which lie side by side in memory.
Everything is computed in float32.

Bytes that have to move, with b bytes per number, beside rows and row numbers (8·P for all channels together), which are small: the
result 2·P·C·b; the sums 3·P·C·b, or 2·P·C·b without an activation; the gradient to x 4·P·C·b, or 3·P·C·b.

Memory beyond inputs and results: the sums of the segments, 8·C bytes for each of them, at most U + P/256.

Checked in Triton's interpreter, by compiling for sm_90, and on an H200 (docs/results/gpu).
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from shared.kernels import kernels_agree, require_kernels
from synth.kernels.bags import SEGMENT, Bags
from synth.kernels.sweeps import Sweeps, TorchSweeps
from synth.kernels.triton_bags import OPTIONS, tolerance_of

MODULE = "synth.kernels.triton_sweeps"


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
    """`synth.kernels.sweeps.Sweeps` for float32, float16 and bfloat16.

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
        y = torch.empty_like(x)
        _visit_map(apply_kernel, x=x, a=a, b=b, rows=rows.contiguous(), index=index, y=y, slope=slope)
        return y

    def row_gradients(self, x: Tensor, a: Tensor, b: Tensor, y: Tensor, d: Tensor, slope: float, of_pixel: Bags) -> Tensor:
        """See `Sweeps`."""
        _require(x)
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


@triton.jit
def tile_of(num_pixels, width, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """Of a program: pixels (BLOCK_P,), channels (BLOCK_C,), which of each exist, and places in a (P, C) matrix with their mask."""
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside, used = pixel < num_pixels, channel < width
    return pixel, channel, inside, used, pixel[:, None] * width + channel[None, :], inside[:, None] & used[None, :]


@triton.jit
def before_activation(d, y, place, mask, slope, ACTIVATED: tl.constexpr):
    """Gradient before the LeakyReLU, from the sign of its result: float32."""
    gradient = tl.load(d + place, mask=mask, other=0.0).to(tl.float32)
    if ACTIVATED:
        gradient = tl.where(tl.load(y + place, mask=mask, other=0.0).to(tl.float32) > 0, gradient, slope * gradient)
    return gradient


@triton.jit
def apply_kernel(x, a, b, rows, index, y, num_pixels, width, slope, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """y = LeakyReLU((a·x + b)·scale + shift).

    Args:
        x, y: (P, C). a, b: (C,) float32. rows: (U, 2·C) scale, then shift. index: (P,) int64 row of each pixel.
        num_pixels, width: P and C.
    """
    pixel, channel, inside, used, place, mask = tile_of(num_pixels, width, BLOCK_P, BLOCK_C)
    row = tl.load(index + pixel, mask=inside, other=0)[:, None] * (2 * width) + channel[None, :]
    scale = tl.load(rows + row, mask=mask, other=0.0).to(tl.float32)
    shift = tl.load(rows + row + width, mask=mask, other=0.0).to(tl.float32)
    normal = tl.load(x + place, mask=mask, other=0.0).to(tl.float32) * tl.load(a + channel, mask=used, other=0.0)[None, :]
    value = (normal + tl.load(b + channel, mask=used, other=0.0)[None, :]) * scale + shift
    tl.store(y + place, tl.where(value > 0, value, slope * value), mask=mask)


@triton.jit
def row_gradients_kernel(
    x, a, b, y, d, pixels, segments, sums, num_segments, num_pixels, width, slope,
    ACTIVATED: tl.constexpr, BLOCK_C: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Sums of d·x̂ and of d, taken before the activation, over the pixels of a segment: no atomics, the same result every time.

    Args:
        d: (P, C) gradient to y.
        pixels: (P,) int64, sorted by row. segments: (num_segments,) int64 first entry of each in `pixels`.
        sums: (num_segments, 2·C) float32.
        ACTIVATED: whether there is a LeakyReLU; else y is not read.
        STEP: pixels at a time.
        The others as in `apply_kernel`.
    """
    segment = tl.program_id(0).to(tl.int64)
    first = tl.load(segments + segment)
    last = tl.load(segments + segment + 1, mask=segment + 1 < num_segments, other=num_pixels)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    used = channel < width
    factor, offset = tl.load(a + channel, mask=used, other=0.0)[None, :], tl.load(b + channel, mask=used, other=0.0)[None, :]
    of_shift = tl.zeros([STEP, BLOCK_C], tl.float32)
    of_scale = tl.zeros([STEP, BLOCK_C], tl.float32)
    for start in range(first, last, STEP):
        entry = start + tl.arange(0, STEP)
        pixel = tl.load(pixels + entry, mask=entry < last, other=0)
        place, mask = pixel[:, None] * width + channel[None, :], (entry < last)[:, None] & used[None, :]
        gradient = before_activation(d, y, place, mask, slope, ACTIVATED)
        of_shift += gradient
        of_scale += gradient * (tl.load(x + place, mask=mask, other=0.0).to(tl.float32) * factor + offset)
    place = segment * 2 * width + channel
    tl.store(sums + place, tl.sum(of_scale, 0), mask=used)
    tl.store(sums + place + width, tl.sum(of_shift, 0), mask=used)


@triton.jit
def input_gradient_kernel(
    x, a, b, y, d, rows, index, mean, mean_product, gradient, num_pixels, width, slope,
    ACTIVATED: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """gradient = a·(d·scale − mean − x̂·mean_product), d taken before the activation.

    Args:
        mean, mean_product: (C,) float32. gradient: (P, C).
        The others as in `apply_kernel` and `row_gradients_kernel`.
    """
    pixel, channel, inside, used, place, mask = tile_of(num_pixels, width, BLOCK_P, BLOCK_C)
    row = tl.load(index + pixel, mask=inside, other=0)[:, None] * (2 * width) + channel[None, :]
    value = before_activation(d, y, place, mask, slope, ACTIVATED) * tl.load(rows + row, mask=mask, other=0.0).to(tl.float32)
    factor = tl.load(a + channel, mask=used, other=0.0)[None, :]
    value -= tl.load(mean + channel, mask=used, other=0.0)[None, :]
    normal = tl.load(x + place, mask=mask, other=0.0).to(tl.float32) * factor + tl.load(b + channel, mask=used, other=0.0)[None, :]
    value -= normal * tl.load(mean_product + channel, mask=used, other=0.0)[None, :]
    tl.store(gradient + place, value * factor, mask=mask)


@cache
def modulation_agrees(device: torch.device, dtype: torch.dtype = torch.float32, of_rows: torch.dtype = torch.float32) -> bool:
    """Whether the sweeps over such features and rows give what plain torch gives on this device; checked once, in the seconds of
    compilation."""
    generator = torch.Generator().manual_seed(0)
    num_pixels, num_rows, width = 600, 48, 40
    index = torch.randint(0, num_rows, (num_pixels,), generator=generator)
    index[: SEGMENT + 100] = 0  # the pixels of one row are more than a segment holds
    of_pixel = Bags(index.to(device), torch.arange(num_pixels, device=device), num_rows)
    x, d = torch.randn(2, num_pixels, width, generator=generator).to(device)
    rows, (a, b, *means) = (torch.randn(n, m, generator=generator).to(device) for n, m in ((num_rows, 2 * width), (4, width)))
    slope, x, d, rows = 0.2, x.to(dtype), d.to(dtype), rows.to(of_rows)

    def results(sweeps: Sweeps) -> list[Tensor]:
        # one y for both: near 0, rounding may give two of them different signs, and then different gradients
        y = TorchSweeps().apply(x, a, b, rows, of_pixel.indices, slope)
        return [
            *sweeps.moments(x),
            sweeps.apply(x, a, b, rows, of_pixel.indices, slope),
            sweeps.row_gradients(x, a, b, y, d, slope, of_pixel),
            sweeps.input_gradient(x, a, b, y, d, slope, rows, of_pixel.indices, (means[0], means[1])),
        ]

    return kernels_agree(
        lambda: results(TritonSweeps()),
        lambda: results(TorchSweeps()),
        where=str(device),
        what="the modulation",
        tolerance=max(tolerance_of(dtype), tolerance_of(of_rows)),
    )
