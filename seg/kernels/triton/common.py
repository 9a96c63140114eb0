# mypy: disable-error-code="no-untyped-def"
"""What the Triton kernels share: splitting, products, distances, and reading pixels.

Shapes: N images, S pixels of an image, C classes, D embedding size; DIM_PAD is D padded with zeros, BLOCK_P the pixels of a block.
"""

import triton
import triton.language as tl


@triton.jit
def split_half(values):
    """float32 → two float16 that add up to it, to 2⁻²² of 1 where |value| ≤ 1."""
    high = values.to(tl.float16)
    return high, (values - high.to(tl.float32)).to(tl.float16)


@triton.jit
def split_wide(values):
    """float32 → two bfloat16 that add up to it, to 2⁻¹⁶ of it, in float32's whole range. The high one is cut: cheaper than rounding."""
    # −65536 is 0xFFFF0000: the bits that a bfloat16 has
    high = (values.to(tl.int32, bitcast=True) & -65536).to(tl.float32, bitcast=True)
    return high.to(tl.bfloat16), (values - high).to(tl.bfloat16)


INTERPRETED = tl.constexpr(not isinstance(split_wide, triton.runtime.JITFunction))


@triton.jit
def product(left_high, left_low, right_high, right_low):
    """(A, D) by (D, B), each given in two parts; small terms first."""
    if INTERPRETED:  # Triton's interpreter multiplies the bits of bfloat16 as integers
        left_high, left_low = left_high.to(tl.float32), left_low.to(tl.float32)
        right_high, right_low = right_high.to(tl.float32), right_low.to(tl.float32)
    # low · low is left out: it is about as small as what the split has rounded off
    small = tl.dot(left_low, right_high)
    small = tl.dot(left_high, right_low, small)
    return tl.dot(left_high, right_high, small)


@triton.jit
def distances(left, left_step, right, right_step, PLAIN: tl.constexpr, DIM: tl.constexpr):
    """(A, B) from differences; `left` (A,) and `right` (B,) point to the first coordinates, the next are a step further."""
    total = tl.zeros([left.shape[0], right.shape[0]], tl.float32)
    for dim in range(DIM):
        ours = tl.load(left + dim * left_step).to(tl.float32)
        theirs = tl.load(right + dim * right_step).to(tl.float32)
        difference = ours[:, None] - theirs[None, :]
        total += difference * difference
    return tl.sqrt(total) if PLAIN else total


@triton.jit
def stretched(slopes, distance, PLAIN: tl.constexpr):
    """Slope of the logit → factor of x − μ in the gradient, up to the host's factor 2 or 1; the plain distance has none at 0."""
    if PLAIN:
        # both sides of a `where` are computed, hence 1 for 0; slopes · distance is 0 at 0, and nan stays nan
        slopes = tl.where(distance > 0, slopes / tl.where(distance > 0, distance, 1.0), slopes * distance)
    return slopes


@triton.jit
def pixel_block(block, labels, label_image, label_pixel, num_pixels, blocks_per_image, ignore_index, BLOCK_P: tl.constexpr):
    """Image (), pixels (BLOCK_P,), which of them count, and their targets (−1 where they do not)."""
    image = block // blocks_per_image
    pixel = (block % blocks_per_image) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = pixel < num_pixels
    label = tl.load(labels + image * label_image + pixel * label_pixel, mask=inside, other=0).to(tl.int64)
    valid = inside & (label != ignore_index)
    return image, pixel, valid, tl.where(valid, label, -1).to(tl.int32)


@triton.jit
def load_vectors(starts, step, valid, DIM: tl.constexpr, DIM_PAD: tl.constexpr):
    """(P, DIM_PAD) float32; zeros where a pixel is not valid and in the padding."""
    # 64 bits: places in large maps pass 2³¹
    dim = tl.arange(0, DIM_PAD).to(tl.int64)
    mask = valid[:, None] & (dim < DIM)[None, :]
    return tl.load(starts[:, None] + dim[None, :] * step, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def reach_kernel(
    pixels, labels, reaches,
    num_pixels, blocks_per_image, ignore_index, pixel_image, pixel_dim, pixel_pixel, label_image, label_pixel,
    DIM: tl.constexpr, DIM_PAD: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Largest |x|² of each block's valid pixels: −1 where there is none, infinity where one is not a number."""
    block = tl.program_id(0).to(tl.int64)
    image, pixel, valid, _ = pixel_block(block, labels, label_image, label_pixel, num_pixels, blocks_per_image, ignore_index, BLOCK_P)
    x = load_vectors(pixels + image * pixel_image + pixel * pixel_pixel, pixel_dim, valid, DIM, DIM_PAD)
    squared = tl.sum(x * x, 1)
    squared = tl.where(squared >= 0, squared, float("inf"))
    tl.store(reaches + block, tl.max(tl.where(valid, squared, -1.0), 0))
