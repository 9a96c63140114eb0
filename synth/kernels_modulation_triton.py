# mypy: disable-error-code="no-untyped-def"
"""Triton kernels of the sweeps of `synth.modulation`, over pixels whose channels lie side by side in memory.

Shapes: P pixels of the batch, U rows, C channels; tiles of BLOCK_P pixels and BLOCK_C channels. Everything is computed in float32.

Bytes that have to move, with b bytes per number, beside rows and row numbers (8·P for all channels together), which are small: the
result 2·P·C·b; the sums 3·P·C·b, or 2·P·C·b without an activation; the gradient to x 4·P·C·b, or 3·P·C·b.
"""

import triton
import triton.language as tl


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
